//! What a certificate says of itself, as far as an owner wants to see it: whose it is and how long it is good.
//!
//! Only the outline of the certificate is read. Whether it is trusted is for the receiver to decide, and whether it is well
//! formed and fits its key is checked by the TLS library.

use aws_lc_rs::digest::{SHA256, digest};
use chrono::NaiveDateTime;

const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;
const INTEGER: u8 = 0x02;
const OBJECT_IDENTIFIER: u8 = 0x06;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
/// The field with the version, which old certificates leave out.
const VERSION: u8 = 0xa0;
/// 2.5.4.3.
const COMMON_NAME: &[u8] = &[0x55, 0x04, 0x03];
/// Texts in UTF-8 or a part of it: `UTF8String`, `PrintableString`, `IA5String`.
const TEXTS: [u8; 3] = [0x0c, 0x13, 0x16];
/// Characters of a name that are shown.
const NAME_CHARS_MAX: usize = 64;

/// What a certificate says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateFacts {
    /// The common name of its subject, if it has one.
    pub subject: Option<String>,
    /// SHA-256 of the certificate in hexadecimal.
    pub sha256_fingerprint: String,
    /// From when it is good, in milliseconds since 1970.
    pub not_before_ms: i64,
    /// Until when, likewise.
    pub not_after_ms: i64,
}

impl CertificateFacts {
    /// Reads a certificate in DER; none if it is not one.
    pub(super) fn read(der: &[u8]) -> Option<Self> {
        let certificate = Reader(der).inside(SEQUENCE)?.0;
        let mut body = Reader(certificate).inside(SEQUENCE)?;
        if body.0.first() == Some(&VERSION) {
            body.next(VERSION)?;
        }
        body.next(INTEGER)?;
        // The algorithm of the signature, and the issuer.
        body.next(SEQUENCE)?;
        body.next(SEQUENCE)?;
        let mut validity = Reader(body.next(SEQUENCE)?);
        let (not_before_ms, not_after_ms) = (validity.instant()?, validity.instant()?);
        let subject = common_name(body.next(SEQUENCE)?);
        let sha256_fingerprint = hex(digest(&SHA256, der).as_ref());
        Some(Self { subject, sha256_fingerprint, not_before_ms, not_after_ms })
    }
}

/// Reads one value after the other.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    /// The content of the next value and its tag.
    fn any(&mut self) -> Option<(u8, &'a [u8])> {
        let (&[tag, first], rest) = self.0.split_first_chunk()?;
        let (length, rest) = match first {
            0..=0x7f => (usize::from(first), rest),
            0x81 | 0x82 => {
                let (bytes, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
                (bytes.iter().fold(0, |length, byte| length << 8 | usize::from(*byte)), rest)
            }
            // Nothing in a certificate of a client is as long as 64 KiB.
            _ => return None,
        };
        let (content, rest) = rest.split_at_checked(length)?;
        self.0 = rest;
        Some((tag, content))
    }

    /// The content of the next value, which must have this tag.
    fn next(&mut self, wanted: u8) -> Option<&'a [u8]> {
        self.any().filter(|(tag, _)| *tag == wanted).map(|(_, content)| content)
    }

    /// What is inside the next value, which must have this tag.
    fn inside(mut self, wanted: u8) -> Option<Self> {
        self.next(wanted).map(Reader)
    }

    fn instant(&mut self) -> Option<i64> {
        let (tag, content) = self.any()?;
        let text = std::str::from_utf8(content).ok()?;
        let text = match tag {
            // Two digits of the year: from 1950 to 2049.
            UTC_TIME => {
                let century = if text.get(..2)?.parse::<u8>().ok()? < 50 { "20" } else { "19" };
                format!("{century}{text}")
            }
            GENERALIZED_TIME => text.to_owned(),
            _ => return None,
        };
        let at = NaiveDateTime::parse_from_str(&text, "%Y%m%d%H%M%SZ").ok()?;
        Some(at.and_utc().timestamp_millis())
    }
}

fn common_name(name: &[u8]) -> Option<String> {
    let mut parts = Reader(name);
    let mut found = None;
    while let Some(part) = parts.next(SET) {
        let mut pair = Reader(part).inside(SEQUENCE)?;
        if pair.next(OBJECT_IDENTIFIER)? == COMMON_NAME {
            let (tag, text) = pair.any()?;
            // The last one is the most particular.
            found = std::str::from_utf8(text).ok().filter(|_| TEXTS.contains(&tag));
        }
    }
    let shown = found?.chars().filter(|c| !c.is_control()).take(NAME_CHARS_MAX).collect::<String>();
    (!shown.is_empty()).then_some(shown)
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}
