//! Which NATS server, how to sign in there, and which stream. Nothing of this that is secret is ever printed.

use std::fmt;
use std::path::PathBuf;

use async_nats::{ConnectOptions, ServerAddr};
use url::Url;

/// The stream unless the operator says otherwise.
const STREAM_DEFAULT: &str = "FOLLOWPOINTS";
/// Characters of a stream's name; it becomes the name of a folder.
const STREAM_NAME_MAX: usize = 64;
/// What NATS allows at the most.
const REPLICAS_MAX: u8 = 5;
/// Servers of a cluster that are named.
const SERVERS_MAX: usize = 16;

/// What is wrong with the settings, and what to do.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// Not servers.
    #[error(
        "FOLLOWPOINTS_NATS_URL must be 1 to {SERVERS_MAX} comma-separated URLs like nats://nats.example:4222 or tls://user:password@nats.example"
    )]
    Url,
    /// The servers are to be told different things.
    #[error(
        "FOLLOWPOINTS_NATS_URL has different user names, passwords or tokens; every server gets the same, so name them once"
    )]
    DifferentSignIns,
    /// Two ways to sign in.
    #[error(
        "FOLLOWPOINTS_NATS_URL has a user name or token, and FOLLOWPOINTS_NATS_CREDENTIALS_FILE is set too; choose one of them"
    )]
    TwoSignIns,
    /// The file cannot be read.
    #[error("FOLLOWPOINTS_NATS_CREDENTIALS_FILE: cannot read {}: {source}", path.display())]
    CredentialsFile {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The file has something else in it.
    #[error(
        "FOLLOWPOINTS_NATS_CREDENTIALS_FILE: {} holds no NATS credentials; `nsc generate creds` writes such a file",
        .0.display()
    )]
    Credentials(PathBuf),
    /// Credentials for nobody.
    #[error("FOLLOWPOINTS_NATS_CREDENTIALS_FILE is set without FOLLOWPOINTS_NATS_URL; set both or none")]
    NoUrl,
    /// Not a name.
    #[error(
        "FOLLOWPOINTS_NATS_STREAM is {0:?}; it must be 1 to {STREAM_NAME_MAX} letters, digits, hyphens and underscores"
    )]
    Stream(String),
    /// Not a number of replicas.
    #[error("FOLLOWPOINTS_NATS_REPLICAS is {0:?}; it must be a number from 1 to {REPLICAS_MAX}, best 1 or 3")]
    Replicas(String),
}

/// The settings as given, before they are checked.
#[derive(Clone, Default)]
pub struct Given {
    /// `FOLLOWPOINTS_NATS_URL`.
    pub url: Option<String>,
    /// `FOLLOWPOINTS_NATS_CREDENTIALS_FILE`.
    pub credentials_file: Option<PathBuf>,
    /// `FOLLOWPOINTS_NATS_STREAM`.
    pub stream: Option<String>,
    /// `FOLLOWPOINTS_NATS_REPLICAS`.
    pub replicas: Option<String>,
}

/// How to sign in.
#[derive(Clone, PartialEq, Eq)]
enum SignIn {
    Nobody,
    Token(String),
    User(String, String),
    /// What the file holds, and which it is.
    Credentials(String, PathBuf),
}

/// Checked settings.
#[derive(Clone)]
pub struct Settings {
    servers: Vec<ServerAddr>,
    sign_in: SignIn,
    stream: String,
    replicas: u8,
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings")
            .field("stream", &self.stream)
            .field("replicas", &self.replicas)
            .finish_non_exhaustive()
    }
}

impl Settings {
    /// Checks what was given; without a server there are no settings.
    pub fn new(given: Given) -> Result<Option<Self>, SettingsError> {
        let stream = checked_stream(given.stream)?;
        let replicas = checked_replicas(given.replicas)?;
        let Some(urls) = given.url else {
            return if given.credentials_file.is_some() { Err(SettingsError::NoUrl) } else { Ok(None) };
        };
        let (servers, mut sign_in) = checked_servers(&urls)?;
        if let Some(path) = given.credentials_file {
            if sign_in != SignIn::Nobody {
                return Err(SettingsError::TwoSignIns);
            }
            let text = std::fs::read_to_string(&path);
            let text =
                text.map_err(|source| SettingsError::CredentialsFile { path: path.clone(), source })?;
            sign_in = SignIn::Credentials(text, path);
        }
        let settings = Self { servers, sign_in, stream, replicas };
        settings.sign_in(ConnectOptions::new())?;
        Ok(Some(settings))
    }

    /// The servers, without what one signs in with: the client library writes addresses to its log.
    pub(super) fn servers(&self) -> Vec<ServerAddr> {
        self.servers.clone()
    }

    /// Whether nothing may go unencrypted, also not to servers of the cluster that only the servers name.
    pub(super) fn is_encrypted(&self) -> bool {
        self.servers.iter().any(ServerAddr::tls_required)
    }

    /// The stream.
    pub(super) fn stream(&self) -> &str {
        &self.stream
    }

    /// On how many servers a stream that we make is kept.
    pub(super) const fn replicas(&self) -> u8 {
        self.replicas
    }

    pub(super) fn sign_in(&self, options: ConnectOptions) -> Result<ConnectOptions, SettingsError> {
        Ok(match &self.sign_in {
            SignIn::Nobody => options,
            SignIn::Token(token) => options.token(token.clone()),
            SignIn::User(name, password) => options.user_and_password(name.clone(), password.clone()),
            SignIn::Credentials(text, path) => {
                options.credentials(text).map_err(|_| SettingsError::Credentials(path.clone()))?
            }
        })
    }
}

fn checked_servers(urls: &str) -> Result<(Vec<ServerAddr>, SignIn), SettingsError> {
    let mut servers = Vec::new();
    let mut sign_in = SignIn::Nobody;
    for url in urls.split(',') {
        let (server, own) = checked_server(url.trim()).ok_or(SettingsError::Url)?;
        if own != SignIn::Nobody {
            if sign_in != SignIn::Nobody && sign_in != own {
                return Err(SettingsError::DifferentSignIns);
            }
            sign_in = own;
        }
        servers.push(server);
    }
    if servers.len() > SERVERS_MAX {
        return Err(SettingsError::Url);
    }
    Ok((servers, sign_in))
}

/// The server without, and then, what one signs in with.
fn checked_server(text: &str) -> Option<(ServerAddr, SignIn)> {
    let mut url = Url::parse(text).ok()?;
    let is_plain = matches!(url.path(), "" | "/") && url.query().is_none() && url.fragment().is_none();
    if !matches!(url.scheme(), "nats" | "tls") || !is_plain || url.host_str().is_none_or(str::is_empty) {
        return None;
    }
    let decoded =
        |text: &str| Some(percent_encoding::percent_decode_str(text).decode_utf8().ok()?.into_owned());
    let sign_in = match (url.username(), url.password()) {
        ("", None) => SignIn::Nobody,
        ("", Some(_)) => return None,
        (token, None) => SignIn::Token(decoded(token)?),
        (name, Some(password)) => SignIn::User(decoded(name)?, decoded(password)?),
    };
    url.set_username("").ok()?;
    url.set_password(None).ok()?;
    Some((ServerAddr::from_url(url).ok()?, sign_in))
}

fn checked_stream(given: Option<String>) -> Result<String, SettingsError> {
    let name = given.unwrap_or_else(|| STREAM_DEFAULT.to_owned());
    let is_good = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    if name.is_empty() || name.len() > STREAM_NAME_MAX || !name.chars().all(is_good) {
        return Err(SettingsError::Stream(name));
    }
    Ok(name)
}

fn checked_replicas(given: Option<String>) -> Result<u8, SettingsError> {
    let Some(text) = given else { return Ok(1) };
    let replicas = text.parse().ok().filter(|replicas| (1..=REPLICAS_MAX).contains(replicas));
    replicas.ok_or(SettingsError::Replicas(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn servers(urls: &str) -> Result<(Vec<String>, SignIn), String> {
        let checked = checked_servers(urls).map_err(|error| error.to_string())?;
        Ok((checked.0.iter().map(|server| server.as_url_str().to_owned()).collect(), checked.1))
    }

    #[test]
    fn what_one_signs_in_with_is_taken_out_of_the_addresses() {
        let user = |name: &str, password: &str| SignIn::User(name.to_owned(), password.to_owned());
        let token = |token: &str| SignIn::Token(token.to_owned());
        for (urls, addresses, sign_in) in [
            ("nats://n.example", &["nats://n.example"][..], SignIn::Nobody),
            ("nats://u:p%40ss@n.example:4222", &["nats://n.example:4222"], user("u", "p@ss")),
            ("tls://s3cr3t@[::1]:4333/", &["tls://[::1]:4333/"], token("s3cr3t")),
            (
                "nats://u:p@a:1, nats://b:2,nats://u:p@c:3",
                &["nats://a:1", "nats://b:2", "nats://c:3"],
                user("u", "p"),
            ),
        ] {
            let addresses = addresses.iter().map(|&address| address.to_owned()).collect();
            assert!(servers(urls) == Ok((addresses, sign_in)), "{urls}");
        }
    }

    #[test]
    fn what_is_no_server_is_refused() {
        for urls in [
            "",
            ",",
            "n.example",
            "n.example:4222",
            "http://n.example",
            "ws://n.example",
            "nats://",
            "nats://:p@n",
            "nats://n/path",
            "nats://n?a=b",
            "nats://n#f",
            "nats://n,",
            "nats://n:99999",
            "nats://u%ff:p@n",
        ] {
            assert!(matches!(checked_servers(urls), Err(SettingsError::Url)), "{urls}");
        }
        let many = vec!["nats://n"; SERVERS_MAX + 1].join(",");
        assert!(matches!(checked_servers(&many), Err(SettingsError::Url)));
        for urls in ["nats://u:p@a,nats://u:q@b", "nats://t@a,nats://u:p@b"] {
            assert!(matches!(checked_servers(urls), Err(SettingsError::DifferentSignIns)), "{urls}");
        }
    }
}
