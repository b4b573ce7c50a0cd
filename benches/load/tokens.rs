//! Tokens in bulk: the site's own (HS256 by a shared secret), and the service's (`EdDSA`, made with the installation's key).

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use entity::id::{MemberId, SiteId, Timestamp};
use followpoints::access::Caller;
use followpoints::access::tokens::AccessTokens;
use followpoints::app::Seams;
use followpoints::clock::{Clock as _, SystemClock};
use followpoints::db::Db;
use followpoints::ids::{IdGenerator as _, RandomIds};
use followpoints::seal::Sealer;
use serde_json::json;
use uuid::Uuid;

use super::database::{Database, block_on};
use super::fill::{Thing, external_id};
use super::service::{AUDIENCE, HMAC_SECRET, ISSUER, MASTER_KEY};

/// How long a token is good, in seconds.
const LIFE_S: i64 = 3_600;

/// Which token members show.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Token {
    /// The site's own JWT under a shared secret.
    Hs256,
    /// The service's own access token.
    Own,
}

/// Makes members' tokens.
pub(crate) enum Mint {
    Hs256 { key: Box<hmac::Key>, now: Timestamp },
    Own { tokens: AccessTokens, ids: RandomIds, site: SiteId, now: Timestamp },
}

impl Mint {
    pub(crate) fn new(token: Token, database: &Database, site: Uuid) -> Self {
        let now = SystemClock::default().now();
        match token {
            Token::Hs256 => {
                Self::Hs256 { key: Box::new(hmac::Key::new(hmac::HMAC_SHA256, HMAC_SECRET.as_bytes())), now }
            }
            Token::Own => {
                let tokens = block_on(async {
                    let seams = Seams::default();
                    let opened = Db::open_beside(&database.url, seams.clock, seams.ids).await;
                    let sealer = Sealer::new(MASTER_KEY).expect("a master key");
                    let db = opened.expect("the database opens");
                    let tokens = AccessTokens::load(&db, &sealer).await;
                    let _ = db.close().await;
                    tokens.expect("the service has made its key")
                });
                Self::Own { tokens, ids: RandomIds::default(), site: SiteId(site), now }
            }
        }
    }

    /// The `Authorization` line of the member with this number.
    pub(crate) fn header(&self, number: i64) -> String {
        match self {
            Self::Hs256 { key, now } => {
                let claims = json!({
                    "iss": ISSUER, "aud": AUDIENCE, "sub": external_id(number),
                    "iat": now.seconds(), "exp": now.seconds() + LIFE_S,
                });
                let mut token = URL_SAFE_NO_PAD.encode(r#"{"alg":"HS256","typ":"JWT"}"#);
                token.push('.');
                URL_SAFE_NO_PAD.encode_string(claims.to_string(), &mut token);
                let tag = hmac::sign(key, token.as_bytes());
                token.push('.');
                URL_SAFE_NO_PAD.encode_string(tag, &mut token);
                format!("authorization: {token}")
            }
            Self::Own { tokens, ids, site, now } => {
                let member = MemberId(Thing::Member.id(number));
                let caller = Caller::Member { site: *site, member };
                let token = tokens.issue(&caller, ids.next_id(*now), *now).expect("members have tokens");
                format!("authorization: {token}")
            }
        }
    }
}
