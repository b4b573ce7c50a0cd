//! URLs that were checked for calling.
//!
//! The check runs when a URL is saved, so that the person who typed it is told what is wrong. It cannot know what a
//! name will resolve to; that is judged again for every connection.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use hyper::Uri;
use url::{Host, Url};

use super::Guard;

/// The longest URL that is accepted, in bytes.
pub const URL_LENGTH_MAX: usize = 2048;

const LOOPBACK: [IpAddr; 2] = [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];

/// A URL that [`Guard::check_url`] accepted, in its normal form. Cloning is cheap.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TargetUrl {
    text: Arc<str>,
    uri: Uri,
}

impl TargetUrl {
    /// The URL in its normal form.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The host: a lower case name, or an address (in brackets for IPv6).
    #[must_use]
    pub fn host(&self) -> &str {
        self.uri.host().unwrap_or_default()
    }

    pub(super) fn uri(&self) -> &Uri {
        &self.uri
    }
}

impl fmt::Display for TargetUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// Why a URL is not accepted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UrlProblem {
    /// It is longer than [`URL_LENGTH_MAX`].
    #[error("a URL may have at most {URL_LENGTH_MAX} characters")]
    TooLong,
    /// It is not a URL.
    #[error("this is not a complete URL: {0}")]
    Malformed(&'static str),
    /// Its scheme is neither https nor http.
    #[error("a URL must start with https://")]
    UnsupportedScheme,
    /// It has no host.
    #[error("a URL must name a host")]
    MissingHost,
    /// It carries a user name or a password.
    #[error("a URL must not contain a user name or a password")]
    HasCredentials,
    /// It has a part after `#`.
    #[error("a URL must not contain a fragment (the part after #)")]
    HasFragment,
    /// Its port is 0.
    #[error("port 0 cannot be called")]
    PortZero,
    /// It is plain http to something that the operator did not name.
    #[error("a URL must start with https://, unless the operator has allowed its network")]
    HttpsRequired,
    /// Its host is an address that is not globally reachable.
    #[error("the address {0} is not publicly reachable and must not be called")]
    ForbiddenAddress(IpAddr),
    /// Its host is a name of this machine.
    #[error("the name {0} means this machine and must not be called")]
    LocalName(String),
}

impl Guard {
    /// Checks a URL that somebody typed.
    ///
    /// Exotic spellings of addresses (decimal, octal, hexadecimal, IPv4 inside IPv6) are judged by what they mean.
    pub fn check_url(&self, text: &str) -> Result<TargetUrl, UrlProblem> {
        if text.len() > URL_LENGTH_MAX {
            return Err(UrlProblem::TooLong);
        }
        // The parser would drop tabs and newlines silently: what is shown to a person must be what is called.
        if text.contains(|c: char| c.is_control() || c.is_whitespace()) {
            return Err(UrlProblem::Malformed("it contains white space or control characters"));
        }
        let url = Url::parse(text).map_err(describe_parse_error)?;
        check_parts(&url)?;
        self.check_host(&url)?;
        let normal = String::from(url);
        if normal.len() > URL_LENGTH_MAX {
            return Err(UrlProblem::TooLong);
        }
        let uri = Uri::try_from(&normal)
            .map_err(|_| UrlProblem::Malformed("it contains characters that need escaping"))?;
        Ok(TargetUrl { text: normal.into(), uri })
    }

    fn check_host(&self, url: &Url) -> Result<(), UrlProblem> {
        let is_plain = url.scheme() == "http";
        let literal = match url.host() {
            None => return Err(UrlProblem::MissingHost),
            Some(Host::Domain(name)) => return self.check_name(name, is_plain),
            Some(Host::Ipv4(address)) => IpAddr::V4(address),
            Some(Host::Ipv6(address)) => IpAddr::V6(address),
        };
        if !self.permits(literal) {
            return Err(UrlProblem::ForbiddenAddress(literal.to_canonical()));
        }
        if is_plain && !self.is_allowed(literal) {
            return Err(UrlProblem::HttpsRequired);
        }
        Ok(())
    }

    fn check_name(&self, name: &str, is_plain: bool) -> Result<(), UrlProblem> {
        let bare = name.strip_suffix('.').unwrap_or(name);
        if bare.is_empty() {
            return Err(UrlProblem::MissingHost);
        }
        let is_local = bare == "localhost" || bare.ends_with(".localhost");
        if is_local && !LOOPBACK.iter().any(|address| self.permits(*address)) {
            return Err(UrlProblem::LocalName(name.to_owned()));
        }
        // Which address the name means is only known when it is called; the connector then insists on an allowed one.
        if is_plain && !self.has_allowed_nets() {
            return Err(UrlProblem::HttpsRequired);
        }
        Ok(())
    }
}

fn check_parts(url: &Url) -> Result<(), UrlProblem> {
    if !matches!(url.scheme(), "http" | "https") {
        return Err(UrlProblem::UnsupportedScheme);
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(UrlProblem::HasCredentials);
    }
    if url.fragment().is_some() {
        return Err(UrlProblem::HasFragment);
    }
    if url.port() == Some(0) {
        return Err(UrlProblem::PortZero);
    }
    Ok(())
}

fn describe_parse_error(error: url::ParseError) -> UrlProblem {
    match error {
        url::ParseError::EmptyHost => UrlProblem::MissingHost,
        url::ParseError::InvalidPort => UrlProblem::Malformed("its port is not a number up to 65535"),
        url::ParseError::IdnaError | url::ParseError::InvalidDomainCharacter => {
            UrlProblem::Malformed("its host is not a valid name")
        }
        url::ParseError::InvalidIpv4Address | url::ParseError::InvalidIpv6Address => {
            UrlProblem::Malformed("its host is not a valid address")
        }
        url::ParseError::RelativeUrlWithoutBase => UrlProblem::Malformed("it does not start with https://"),
        _ => UrlProblem::Malformed("it cannot be read"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(guard: &Guard, text: &str) -> Option<UrlProblem> {
        guard.check_url(text).err()
    }

    fn forbidden(text: &str) -> UrlProblem {
        UrlProblem::ForbiddenAddress(text.parse().expect("the test gives an address"))
    }

    #[test]
    fn public_https_urls_are_accepted_in_normal_form() {
        let guard = Guard::default();
        for (given, normal) in [
            ("https://example.com", "https://example.com/"),
            ("HTTPS://Example.COM:443/a?b=c", "https://example.com/a?b=c"),
            ("https://example.com:8443/hook", "https://example.com:8443/hook"),
            ("https://8.8.8.8/x", "https://8.8.8.8/x"),
            ("https://[2606:4700::1111]/x", "https://[2606:4700::1111]/x"),
            ("https://b\u{fc}cher.example/x|y^z", "https://xn--bcher-kva.example/x|y^z"),
            ("https://example.com/a%20b?q={x}", "https://example.com/a%20b?q={x}"),
        ] {
            let target = guard.check_url(given).expect(given);
            assert_eq!(target.as_str(), normal);
            assert_eq!(target.to_string(), normal);
        }
        assert_eq!(
            guard.check_url("https://[2606:4700::1111]:8443/x").expect("valid").host(),
            "[2606:4700::1111]"
        );
    }

    #[test]
    fn what_is_not_a_plain_https_url_is_refused() {
        let guard = Guard::default();
        for (text, wanted) in [
            ("ftp://example.com/", UrlProblem::UnsupportedScheme),
            ("file:///etc/passwd", UrlProblem::UnsupportedScheme),
            ("gopher://example.com/", UrlProblem::UnsupportedScheme),
            ("data:text/plain,hi", UrlProblem::UnsupportedScheme),
            ("https://", UrlProblem::MissingHost),
            ("https://./", UrlProblem::MissingHost),
            ("https://user@example.com/", UrlProblem::HasCredentials),
            ("https://user:pass@example.com/", UrlProblem::HasCredentials),
            ("https://:pass@example.com/", UrlProblem::HasCredentials),
            ("https://example.com/#part", UrlProblem::HasFragment),
            ("https://example.com/#", UrlProblem::HasFragment),
            ("https://example.com:0/", UrlProblem::PortZero),
            ("http://example.com/", UrlProblem::HttpsRequired),
            ("http://8.8.8.8/", UrlProblem::HttpsRequired),
            ("https://localhost/", UrlProblem::LocalName("localhost".to_owned())),
            ("https://LOCALHOST./", UrlProblem::LocalName("localhost.".to_owned())),
            ("https://a.b.localhost/", UrlProblem::LocalName("a.b.localhost".to_owned())),
        ] {
            assert_eq!(problem(&guard, text), Some(wanted), "{text}");
        }
        for text in [
            "",
            "example.com",
            "/x",
            "https://exa mple.com/",
            "https://a\tb/",
            " https://a.example/",
            "https://a:99999/",
            "https://[::1",
            "https://1.2.3.256/",
            "https://fe80::1%25eth0/",
        ] {
            assert!(matches!(problem(&guard, text), Some(UrlProblem::Malformed(_))), "{text}");
        }
    }

    #[test]
    fn the_length_is_limited_before_and_after_normalising() {
        let guard = Guard::default();
        let longest = format!("https://example.com/{}", "x".repeat(URL_LENGTH_MAX - 20));
        assert_eq!(longest.len(), URL_LENGTH_MAX);
        assert_eq!(problem(&guard, &longest), None);
        assert_eq!(problem(&guard, &format!("{longest}x")), Some(UrlProblem::TooLong));
        let growing = format!("https://example.com/{}", "\u{fc}".repeat(800));
        assert!(growing.len() < URL_LENGTH_MAX);
        assert_eq!(problem(&guard, &growing), Some(UrlProblem::TooLong));
    }

    #[test]
    fn exotic_spellings_of_forbidden_addresses_are_refused() {
        let guard = Guard::default();
        for (text, address) in [
            ("https://127.0.0.1/", "127.0.0.1"),
            ("https://2130706433/", "127.0.0.1"),
            ("https://0x7f000001/", "127.0.0.1"),
            ("https://0x7f.1/", "127.0.0.1"),
            ("https://017700000001/", "127.0.0.1"),
            ("https://0177.0.0.1/", "127.0.0.1"),
            ("https://127.1/", "127.0.0.1"),
            ("https://127.0.0.1./", "127.0.0.1"),
            ("https://\u{ff11}27.0.0.1/", "127.0.0.1"),
            ("https://%31%32%37.0.0.1/", "127.0.0.1"),
            ("https://0/", "0.0.0.0"),
            ("https://169.254.169.254/latest/meta-data", "169.254.169.254"),
            ("https://[::ffff:127.0.0.1]/", "127.0.0.1"),
            ("https://[::ffff:7f00:1]/", "127.0.0.1"),
            ("https://[0:0:0:0:0:ffff:a9fe:a9fe]/", "169.254.169.254"),
            ("https://[::1]/", "::1"),
            ("https://[::]/", "::"),
            ("https://[::127.0.0.1]/", "::7f00:1"),
            ("https://[64:ff9b::127.0.0.1]/", "64:ff9b::7f00:1"),
            ("https://[2002:7f00:1::]/", "2002:7f00:1::"),
            ("https://[fe80::1]/", "fe80::1"),
            ("http://10.0.0.1/", "10.0.0.1"),
        ] {
            assert_eq!(problem(&guard, text), Some(forbidden(address)), "{text}");
        }
    }

    #[test]
    fn plain_http_is_for_allowed_networks() {
        let guard = Guard::parse("10.0.0.0/8").expect("the list is valid");
        for text in
            ["http://10.1.2.3/", "https://10.1.2.3/", "http://[::ffff:10.1.2.3]/", "http://inside.example/"]
        {
            assert_eq!(problem(&guard, text), None, "{text}");
        }
        assert_eq!(problem(&guard, "http://8.8.8.8/"), Some(UrlProblem::HttpsRequired));
        assert_eq!(problem(&guard, "http://127.0.0.1/"), Some(forbidden("127.0.0.1")));
        let local = Some(UrlProblem::LocalName("localhost".to_owned()));
        assert_eq!(problem(&guard, "http://localhost/"), local);
        let loopback = Guard::parse("::1").expect("the list is valid");
        assert_eq!(problem(&loopback, "http://localhost:8080/"), None);
    }
}
