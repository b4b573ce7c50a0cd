//! Key pairs of a site's own identity provider and of a stranger, and tokens signed with them.
//!
//! FOR TESTS ONLY: the private keys are published with the source, so nothing real may ever trust them. They were made
//! with `openssl genpkey`, so that what an owner pastes is what is tested.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Value, json};

/// The provider's RSA key, 2048 bits.
pub const RSA_PRIVATE: &str = "-----BEGIN PRIVATE KEY-----
MIIEvgIBADANBgkqhkiG9w0BAQEFAASCBKgwggSkAgEAAoIBAQDLFBG+7ishNzru
lFN0lffj+ig50j8oV79LqmudKLdXrUOcz+Oy7ys7r34lUNKthjqKHfR6xFj52lpG
9DJAYdimNtsN2ey80TiRmcO6wWCn2TNNh6smLDy/81YGMkfwoJZgv2nWssSXUs7G
jcVuUtPIN0BkPTbyDYyB4RDw5YFO36Eb+jX2XrV8gJEIyzn/LOdFUByBxop0rCar
mJpLjRd4AeKTguZqSGhm5NtemsVmbN1wStI4nnLltOrfqTeRn7L5zkntBP8zjbta
GmEnC810oTm5BdzEg2WOmKUVj/Ts6JtfR+SZ77YQjYA5bEE2+waQlcG8FYP0yRFC
VeR1EUiJAgMBAAECggEARfsMgncgdbnKnRyQBcUIP4+c/Q/uo8BZM4Huw6GcTKJw
gkFBfg/dHhxDpChN8W4oDiB0dzniT3dnVLwh9P3C4sRUiFlos0iF7ebHBDxPSogW
ncj6uZTU+nCoXEpHcCxmpcBQgKPqCxuGFfYU6wev43bmwaQ2owL4QGmGpPzxqnPY
jyPZNJRvB+k6jYVSt9B49Iwi9O7YffMr4KZjOTbuEazkSsLOeuyMwtdH6CvVB6vH
CHlXUBmpFqiA1fhcW7iTPRCnQGZGoWrheVEQAJZrGKEP0Jh75xpCXh0hE5K/MUD7
uYPJT+tXZ628nBJ/E/gPzFSMshhTafcn48o1Skqu4QKBgQDt8AaZhM2L/uwHJNL0
5OsTdd7ObpYb7fsqAx2wwlayu/RWzgv0H/ixxuyPuWYrqBYbUUSR2YPY9GiT0m2W
htwiFuP7NMWz/hidGBHsz53BVno9Eo9yNoqt0JBmre6MOUwDqvP+/OOtNZpOQaEf
/6CnpIB/cdDH/iyi1dZDb4nqWwKBgQDafprrJvYNVFDzjRikK+d/auhJnoyvrF/N
6afwKRA5Sk1R1BMuKs9PEi99nkVopNj+plH5h/3AHeWCsBZU6YSNd5elT4kfDKH5
TVb4uJHqk1vw7upZgr9jlWlgCl1GMkt3B6vrMZ/yg0qQzXRPTQlBw1EZOcw+bmAD
1k13+0gl6wKBgGbNukxCUP0X26sKggtFjTwPRYEzzq+ql0aDqiRhE0yOYPfQduG3
nqBRLoy6siZSrZqH9nR94rWuhDC6TpcnFZ20/jPfjTxDoSbe63/CBIswbghNKKVU
Y37OClYS+Gqlpu4+wsV9RnHkIxOEz7Ufoa5NKSfnaSm/7FE+yyC/5HrZAoGBAIBd
l1iGGFK2caTVBWAWZzhlr7jozFC9Xb/VAZRIG7781zY2+VnLTuZukbYkkTSsfMwH
HOwUKFGBfwBrwYL7eqO+WjqF4tJ6EoMsG+eeUCPXlVGUm9wgw56W/kStciU2kT2K
JUfVbNoGpn0yJ54bbU/Ul0XRvhwDrqcydWsDF10nAoGBAL4abclz7qf/nbcrW3qg
sgY1fQHRh/66Z5Ut08iTULwP0sX3pDgEr543omb38le8j7QnoqHFhPHKciy7jbqV
O7g6vfpMpQEQENRRmT1VwH1UCBhrA/jCY2tOZUMhAluLMK5n2fiigQtu93YBB/82
3JmDR2dnaPRVCcscAAG+22z+
-----END PRIVATE KEY-----
";
/// Its public half.
pub const RSA_PUBLIC: &str = "-----BEGIN PUBLIC KEY-----
MIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8AMIIBCgKCAQEAyxQRvu4rITc67pRTdJX3
4/ooOdI/KFe/S6prnSi3V61DnM/jsu8rO69+JVDSrYY6ih30esRY+dpaRvQyQGHY
pjbbDdnsvNE4kZnDusFgp9kzTYerJiw8v/NWBjJH8KCWYL9p1rLEl1LOxo3FblLT
yDdAZD028g2MgeEQ8OWBTt+hG/o19l61fICRCMs5/yznRVAcgcaKdKwmq5iaS40X
eAHik4LmakhoZuTbXprFZmzdcErSOJ5y5bTq36k3kZ+y+c5J7QT/M427WhphJwvN
dKE5uQXcxINljpilFY/07OibX0fkme+2EI2AOWxBNvsGkJXBvBWD9MkRQlXkdRFI
iQIDAQAB
-----END PUBLIC KEY-----
";
/// The provider's P-256 key.
pub const EC_PRIVATE: &str = "-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgtETqgtVFrICHXrYn
vByqCvsW2vkkCcyMHSTuQJ0ZRc2hRANCAAQtw7AybuwBY5QMM7Vpe3u0feZQRLSr
nFtxFVfw9Z8MpWplOJXlgS4IZBpY8hAaPNrqoQ4yPZwet8RtWU5vHaHt
-----END PRIVATE KEY-----
";
/// Its public half.
pub const EC_PUBLIC: &str = "-----BEGIN PUBLIC KEY-----
MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAELcOwMm7sAWOUDDO1aXt7tH3mUES0
q5xbcRVX8PWfDKVqZTiV5YEuCGQaWPIQGjza6qEOMj2cHrfEbVlObx2h7Q==
-----END PUBLIC KEY-----
";
/// The provider's Ed25519 key.
pub const ED_PRIVATE: &str = "-----BEGIN PRIVATE KEY-----
MC4CAQAwBQYDK2VwBCIEIBxRoOPrL04sMO6xcWCaEk62P/wSGTbb8CuWMV7jxFyC
-----END PRIVATE KEY-----
";
/// Its public half.
pub const ED_PUBLIC: &str = "-----BEGIN PUBLIC KEY-----
MCowBQYDK2VwAyEAHvnbuGDsMpCNw83VN9/u/IMkHnxQnsggKpEg8D8vsug=
-----END PUBLIC KEY-----
";
/// A stranger's RSA key.
pub const STRANGER_RSA_PRIVATE: &str = "-----BEGIN PRIVATE KEY-----
MIIEvQIBADANBgkqhkiG9w0BAQEFAASCBKcwggSjAgEAAoIBAQChretrAzrqNQV6
ts/IbLVBFGp0fhSlPNksYOb51fHKaThyh5cqml8lBb/9QnQUXlfWrrenyUEfghcj
uU0TTFOH9DtlW589ROQ8vv1MUcMVOIFNMF8yNGI0M3KzWBRMIYxMWBimr5U09fU7
NJRTYZx2Ev/EKYOwbotP6WDt5mw6jhpO0q4eOV6Muk1bQGXXrk5gzWTeiQ6jd+2E
odNi9GQAI9h3LqYzQS5/dRaN+jqo5WExpxRrNr9WFVHLBmpMqyN4y3XVDYQ1tvjV
Lay45YQeUunWmwOwhIiYz3rFaQcJMbLx1uLHDE9lPCvSs1Tj1deMFx+OPocb8G4f
hZKgji5BAgMBAAECggEAHAZpqEMHE1HdgUfu/G7bfExtp4OzUHEbs/WYE/Zh0xQq
FLAsI9ZeZ6x3ew7p0B4KW8wtSYg5IZ0LJcYY9h9k20waf5dCIvyuE1mHzpLdnfAN
ebPIzIsH+sRwPWYnHosyJomevEXzNxrrRzf1/f4NgOoKK5aGnS6MN23cv2ARopR4
iLf3E6/gOEYhInzo1dxuOKKuA1VTG1C1Sjs9XVy0xbfdur58+/0wiMar9djdbkiG
mqemoctcjoZkcUiEG0Isc71/aa7IbPQ6lCiDP3Go/KgdqpfHQqH2sZTtiCutVqL6
xYNkkJiTb4b2yKN3ISjlWTBcoUMQzCSCkEsRW9KvgQKBgQDZ4rKeQf9c9XJ7yVPx
2XxXAJjRyr2LZDgOmIDisZNrfLvZ8zzcimFeyRN35Vm/N0FYzuEV5su40lp4AvCA
WitYWjiWzVqqYSf2aHgmGfsJ13y2d7Fqr5r3xp1Ix3WLvPLd8egO51Urs0YFzzRV
53mxkY4b6tdyYUmcT8C9IcpK2wKBgQC99jWzSx+Y2AnzRM6huNks/E8bPBpUuFAV
HvTHwWCP5THU/eZvpK3Fe3J1ogcrPN1Aj+IW0p2KnlhZm84KUBqpdCngT33M8jNB
sd4aRb8FIayA1LGrKF3RSDLvtrZsGh61zMY3qPlkafmcpeETErbdGQ3uVBXoZcy1
OAZrVZHgEwKBgHEo+OWSl0K7QzMhE9T2xEoXSEclCZ48dZS3BbE20r6vcIy4dHKB
+CIXQmIxnpPd6bVq9KHAVSvvLAdKV4gBzKM9cEh57M2yWePyy/vV4HhzDxVhQqaK
/2wSHhvvY5AomOZGPeSHpsdke0iHHcJDzwM2+lxrcmu4NVfWX96ajwqjAoGBALM6
fAxAUv2YyDqYrwTzLSU+oTynBojspdJntLhMAdmCe/Pj4ulvTO1IvgOy7mSjNnXV
y5GRAkdpgx543HvqfF1pVqFnHuChnC7drRrIt6QV03ZyN3evzGTLZBO8Jn30XwlU
vaiCa1uMiZB9CdE/FP2ix/wXpdvxQKWyyIu43ru1AoGACwtrKFq5wI7dIspP4p2v
YWFqKEYJ7snX85CzpMaTIqkFGNmGgznoSV5aVtjKp0DLya5ihcxXsZq67ws4ydte
IoV7tCzwySnmZuFE6GaA1YqarC7/gWJiSF6S8gMCwUdnqDayCHleVR4WRIxjL5cS
dr6w7ahozNWk5SADMFTStSI=
-----END PRIVATE KEY-----
";
/// A stranger's P-256 key.
pub const STRANGER_EC_PRIVATE: &str = "-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgYOobXWi81BjAPJwH
YW0IPaezQxBfa7/ECs84fIRn2xChRANCAARjWonh5GvxN5SbTTQHUM+O5xnDc2YM
H//siuiNM98+L7qQXSnFcynpAqR/gG1qMiW+hBVVV+kt4DKqpPF9aBDh
-----END PRIVATE KEY-----
";
/// A stranger's Ed25519 key.
pub const STRANGER_ED_PRIVATE: &str = "-----BEGIN PRIVATE KEY-----
MC4CAQAwBQYDK2VwBCIEIDpp0OYiKXXBB/XO/6p9S5VNgj+jRlZzBXgQj8sxbJuj
-----END PRIVATE KEY-----
";
/// A shared secret of 40 bytes.
pub const HMAC_SECRET: &str = "a-shared-secret-of-forty-bytes-for-tests";

/// A private key with the algorithm that goes with it.
pub struct Key {
    pub algorithm: Algorithm,
    pub encoding: EncodingKey,
}

pub fn rsa(pem: &str) -> Key {
    Key { algorithm: Algorithm::RS256, encoding: EncodingKey::from_rsa_pem(pem.as_bytes()).unwrap() }
}

pub fn ec(pem: &str) -> Key {
    Key { algorithm: Algorithm::ES256, encoding: EncodingKey::from_ec_pem(pem.as_bytes()).unwrap() }
}

pub fn ed(pem: &str) -> Key {
    Key { algorithm: Algorithm::EdDSA, encoding: EncodingKey::from_ed_pem(pem.as_bytes()).unwrap() }
}

pub fn hmac(secret: &[u8]) -> Key {
    Key { algorithm: Algorithm::HS256, encoding: EncodingKey::from_secret(secret) }
}

impl Key {
    /// A token without a `kid`.
    pub fn sign(&self, claims: &Value) -> String {
        self.sign_with(&Header::new(self.algorithm), claims)
    }

    /// A token that names its key.
    pub fn sign_as(&self, kid: &str, claims: &Value) -> String {
        self.sign_with(&Header { kid: Some(kid.to_owned()), ..Header::new(self.algorithm) }, claims)
    }

    /// A token with a header of its own.
    pub fn sign_with(&self, header: &Header, claims: &Value) -> String {
        jsonwebtoken::encode(header, claims, &self.encoding).unwrap()
    }

    /// The public half as a member of a key set.
    pub fn jwk(&self, kid: &str) -> Value {
        let mut jwk =
            serde_json::to_value(Jwk::from_encoding_key(&self.encoding, self.algorithm).unwrap()).unwrap();
        jwk["kid"] = json!(kid);
        jwk["use"] = json!("sig");
        jwk
    }
}

/// A part of a token.
pub fn encode_part(json: &Value) -> String {
    URL_SAFE_NO_PAD.encode(json.to_string())
}

/// What a part of `token` says, unproven: 0 is the header, 1 the claims.
pub fn decode_part(token: &str, index: usize) -> Value {
    let part = token.split('.').nth(index).unwrap();
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap()
}
