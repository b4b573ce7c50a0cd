// Verifies a webhook of Followpoints with nothing but Go's standard library. The body comes on standard input:
//
//	go run verify.go <app.pem | keys.json> <app id> < body
//
// With WEBHOOK_SECRET set it also checks the headers, in WEBHOOK_ID, WEBHOOK_TIMESTAMP and WEBHOOK_SIGNATURE.
package main

import (
	"crypto"
	"crypto/hmac"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math"
	"math/big"
	"os"
	"strconv"
	"strings"
	"time"
)

const toleranceSeconds = 300

// Webhook is what a verified token says.
type Webhook struct {
	ID, Type        string
	Event, Identity map[string]any
}

func publicKey(file, kid string) (*rsa.PublicKey, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	if block, _ := pem.Decode(text); block != nil {
		key, err := x509.ParsePKIXPublicKey(block.Bytes)
		if err != nil {
			return nil, err
		}
		if key, ok := key.(*rsa.PublicKey); ok {
			return key, nil
		}
		return nil, errors.New("not an RSA key")
	}
	var set struct {
		Keys []struct{ Kid, Kty, N, E string }
	}
	if err := json.Unmarshal(text, &set); err != nil {
		return nil, err
	}
	for _, key := range set.Keys {
		if key.Kid != kid || key.Kty != "RSA" {
			continue
		}
		n, errN := base64.RawURLEncoding.DecodeString(key.N)
		e, errE := base64.RawURLEncoding.DecodeString(key.E)
		if errN != nil || errE != nil {
			return nil, errors.New("the key cannot be read")
		}
		return &rsa.PublicKey{N: new(big.Int).SetBytes(n), E: int(new(big.Int).SetBytes(e).Int64())}, nil
	}
	return nil, fmt.Errorf("there is no key %q", kid)
}

func decode(part string, into any) error {
	text, err := base64.RawURLEncoding.DecodeString(part)
	if err != nil {
		return err
	}
	return json.Unmarshal(text, into)
}

func verifyToken(token, keyFile, appID string) (*Webhook, error) {
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return nil, errors.New("not a token")
	}
	var head struct{ Alg, Kid string }
	if err := decode(parts[0], &head); err != nil {
		return nil, err
	}
	// The token must not choose how it is verified.
	if head.Alg != "RS256" {
		return nil, fmt.Errorf("the algorithm is %q, not RS256", head.Alg)
	}
	key, err := publicKey(keyFile, head.Kid)
	if err != nil {
		return nil, err
	}
	signature, err := base64.RawURLEncoding.DecodeString(parts[2])
	if err != nil {
		return nil, err
	}
	digest := sha256.Sum256([]byte(parts[0] + "." + parts[1]))
	if err := rsa.VerifyPKCS1v15(key, crypto.SHA256, digest[:], signature); err != nil {
		return nil, errors.New("the signature does not fit")
	}
	var claims struct {
		Iss, Aud, Jti, Data string
		Exp                 int64
	}
	if err := decode(parts[1], &claims); err != nil {
		return nil, err
	}
	switch {
	case claims.Iss != "followpoints":
		return nil, fmt.Errorf("the issuer is %q", claims.Iss)
	case claims.Aud != appID:
		return nil, fmt.Errorf("the audience is %q", claims.Aud)
	case claims.Exp <= time.Now().Unix():
		return nil, errors.New("the token has expired")
	}
	// JSON texts within a JSON text.
	var envelope struct{ EventType, Data, Identity string }
	if err := json.Unmarshal([]byte(claims.Data), &envelope); err != nil {
		return nil, err
	}
	webhook := Webhook{ID: claims.Jti, Type: envelope.EventType}
	if err := json.Unmarshal([]byte(envelope.Data), &webhook.Event); err != nil {
		return nil, err
	}
	return &webhook, json.Unmarshal([]byte(envelope.Identity), &webhook.Identity)
}

func verifyHeaders(body, id, timestamp, signatures, secret string) error {
	seconds, err := strconv.ParseInt(timestamp, 10, 64)
	if err != nil || math.Abs(float64(time.Now().Unix()-seconds)) > toleranceSeconds {
		return errors.New("the timestamp is too far from now")
	}
	key, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(secret, "whsec_"))
	if err != nil {
		return err
	}
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte(id + "." + timestamp + "." + body))
	expected := "v1," + base64.StdEncoding.EncodeToString(mac.Sum(nil))
	// Several while a secret is being rotated; one that fits is enough.
	for _, given := range strings.Split(signatures, " ") {
		if hmac.Equal([]byte(given), []byte(expected)) {
			return nil
		}
	}
	return errors.New("no signature in the headers fits")
}

func run() error {
	if len(os.Args) != 3 {
		return errors.New("usage: verify <app.pem | keys.json> <app id>")
	}
	body, err := io.ReadAll(os.Stdin)
	if err != nil {
		return err
	}
	if secret := os.Getenv("WEBHOOK_SECRET"); secret != "" {
		id, timestamp := os.Getenv("WEBHOOK_ID"), os.Getenv("WEBHOOK_TIMESTAMP")
		if err := verifyHeaders(string(body), id, timestamp, os.Getenv("WEBHOOK_SIGNATURE"), secret); err != nil {
			return err
		}
	}
	webhook, err := verifyToken(string(body), os.Args[1], os.Args[2])
	if err != nil {
		return err
	}
	fmt.Println(webhook.ID, webhook.Type)
	return nil
}

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
