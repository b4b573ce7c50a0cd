// Verifies a webhook of Followpoints with nothing but Java 17. The body comes on standard input:
//
//   java Verify.java <app.pem | keys.json> <app id> < body
//
// With WEBHOOK_SECRET set it also checks the headers, in WEBHOOK_ID, WEBHOOK_TIMESTAMP and WEBHOOK_SIGNATURE.

import static java.nio.charset.StandardCharsets.UTF_8;

import java.math.BigInteger;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.GeneralSecurityException;
import java.security.KeyFactory;
import java.security.MessageDigest;
import java.security.PublicKey;
import java.security.Signature;
import java.security.spec.RSAPublicKeySpec;
import java.security.spec.X509EncodedKeySpec;
import java.time.Instant;
import java.util.ArrayList;
import java.util.Base64;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import javax.crypto.Mac;
import javax.crypto.spec.SecretKeySpec;

public class Verify {
    static final long TOLERANCE_S = 300;

    record Webhook(String id, String type, Map<?, ?> event, Map<?, ?> identity) {}

    static class Refused extends Exception {
        Refused(String why) {
            super(why);
        }
    }

    static void require(boolean holds, String otherwise) throws Refused {
        if (!holds) {
            throw new Refused(otherwise);
        }
    }

    static byte[] decode(String part) {
        return Base64.getUrlDecoder().decode(part);
    }

    static Map<?, ?> json(Object text) {
        return (Map<?, ?>) new Json((String) text).read();
    }

    static PublicKey publicKey(String file, Object kid) throws Exception {
        var text = Files.readString(Path.of(file));
        var factory = KeyFactory.getInstance("RSA");
        if (text.startsWith("-----BEGIN")) {
            return factory.generatePublic(
                new X509EncodedKeySpec(Base64.getMimeDecoder().decode(text.replaceAll("-----.*-----", ""))));
        }
        for (var key : (List<?>) json(text).get("keys")) {
            if (key instanceof Map<?, ?> jwk && kid != null && kid.equals(jwk.get("kid")) && "RSA".equals(jwk.get("kty"))) {
                var n = new BigInteger(1, decode((String) jwk.get("n")));
                var e = new BigInteger(1, decode((String) jwk.get("e")));
                return factory.generatePublic(new RSAPublicKeySpec(n, e));
            }
        }
        throw new Refused("there is no key " + kid);
    }

    static Webhook verifyToken(String token, String keyFile, String appId) throws Exception {
        var parts = token.split("\\.", -1);
        require(parts.length == 3, "not a token");
        var head = json(new String(decode(parts[0]), UTF_8));
        // The token must not choose how it is verified.
        require("RS256".equals(head.get("alg")), "the algorithm is " + head.get("alg") + ", not RS256");
        var rs256 = Signature.getInstance("SHA256withRSA");
        rs256.initVerify(publicKey(keyFile, head.get("kid")));
        rs256.update((parts[0] + "." + parts[1]).getBytes(UTF_8));
        require(rs256.verify(decode(parts[2])), "the signature does not fit");
        var claims = json(new String(decode(parts[1]), UTF_8));
        require("followpoints".equals(claims.get("iss")), "the issuer is " + claims.get("iss"));
        require(appId.equals(claims.get("aud")), "the audience is " + claims.get("aud"));
        require(
            claims.get("exp") instanceof Double exp && exp > Instant.now().getEpochSecond(), "the token has expired");
        // JSON texts within a JSON text.
        var envelope = json(claims.get("data"));
        return new Webhook(
            (String) claims.get("jti"),
            (String) envelope.get("eventType"),
            json(envelope.get("data")),
            json(envelope.get("identity")));
    }

    static void verifyHeaders(String body, Map<String, String> env) throws Exception {
        var timestamp = env.get("WEBHOOK_TIMESTAMP");
        var age = Math.abs(Instant.now().getEpochSecond() - Long.parseLong(timestamp));
        require(age <= TOLERANCE_S, "the timestamp is too far from now");
        var secret = env.get("WEBHOOK_SECRET").replaceFirst("^whsec_", "");
        var mac = Mac.getInstance("HmacSHA256");
        mac.init(new SecretKeySpec(Base64.getDecoder().decode(secret), "HmacSHA256"));
        var content = env.get("WEBHOOK_ID") + "." + timestamp + "." + body;
        var expected = "v1," + Base64.getEncoder().encodeToString(mac.doFinal(content.getBytes(UTF_8)));
        // Several while a secret is being rotated; one that fits is enough.
        for (var given : env.getOrDefault("WEBHOOK_SIGNATURE", "").split(" ")) {
            if (MessageDigest.isEqual(given.getBytes(UTF_8), expected.getBytes(UTF_8))) {
                return;
            }
        }
        throw new Refused("no signature in the headers fits");
    }

    public static void main(String[] arguments) throws Exception {
        try {
            require(arguments.length == 2, "usage: java Verify.java <app.pem | keys.json> <app id>");
            var body = new String(System.in.readAllBytes(), UTF_8).strip();
            if (System.getenv("WEBHOOK_SECRET") != null) {
                verifyHeaders(body, System.getenv());
            }
            var webhook = verifyToken(body, arguments[0], arguments[1]);
            System.out.println(webhook.id() + " " + webhook.type());
        } catch (Refused | GeneralSecurityException | IllegalArgumentException | ClassCastException refused) {
            System.err.println(refused.getMessage());
            System.exit(1);
        }
    }

    /** Just enough JSON to need no library; if you have one, use it. Objects are maps, arrays lists, numbers doubles. */
    static class Json {
        private final String text;
        private int at = 0;

        Json(String text) {
            this.text = text;
        }

        Object read() {
            var value = value();
            return at == text.length() ? value : fail();
        }

        private Object value() {
            space();
            Object value;
            if (eat('{')) {
                var map = new HashMap<String, Object>();
                space();
                while (!eat('}')) {
                    expect(map.isEmpty() || eat(','));
                    space();
                    expect(eat('"'));
                    var name = string();
                    space();
                    expect(eat(':'));
                    map.put(name, value());
                }
                value = map;
            } else if (eat('[')) {
                var list = new ArrayList<Object>();
                space();
                while (!eat(']')) {
                    expect(list.isEmpty() || eat(','));
                    list.add(value());
                }
                value = list;
            } else if (eat('"')) {
                value = string();
            } else {
                var start = at;
                while (at < text.length() && ",]} \t\r\n".indexOf(text.charAt(at)) < 0) {
                    at++;
                }
                var word = text.substring(start, at);
                value = switch (word) {
                    case "null" -> null;
                    case "true", "false" -> Boolean.valueOf(word);
                    default -> Double.valueOf(word);
                };
            }
            space();
            return value;
        }

        private String string() {
            var read = new StringBuilder();
            while (!eat('"')) {
                var c = next();
                if (c == '\\') {
                    c = next();
                    var escape = "bfnrt".indexOf(c);
                    if (c == 'u') {
                        expect(at + 4 <= text.length());
                        c = (char) Integer.parseInt(text.substring(at, at += 4), 16);
                    } else if (escape >= 0) {
                        c = "\b\f\n\r\t".charAt(escape);
                    }
                }
                read.append(c);
            }
            return read.toString();
        }

        private char next() {
            expect(at < text.length());
            return text.charAt(at++);
        }

        private boolean eat(char c) {
            var is = at < text.length() && text.charAt(at) == c;
            at += is ? 1 : 0;
            return is;
        }

        private void space() {
            while (at < text.length() && " \t\r\n".indexOf(text.charAt(at)) >= 0) {
                at++;
            }
        }

        private void expect(boolean holds) {
            if (!holds) {
                fail();
            }
        }

        private Object fail() {
            throw new IllegalArgumentException("no JSON at " + at);
        }
    }
}
