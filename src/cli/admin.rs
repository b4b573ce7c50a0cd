//! `admin`: what an operator needs without HTTP, on the database itself. Prints the identifiers alone on standard output, so
//! that scripts can use them.

use clap::Subcommand;
use entity::id::{MemberId, SiteId};
use followpoints::access::oauth::Grants;
use followpoints::access::tokens::AccessTokens;
use followpoints::access::{Scope, api_keys};
use followpoints::config::Config;
use followpoints::db::Db;
use followpoints::members::{self, NewMember};
use followpoints::{seal, sites};
use uuid::Uuid;

#[derive(Subcommand)]
pub(super) enum AdminCommand {
    /// Make a site; prints its id
    CreateSite {
        /// Shown to the owner
        #[arg(value_parser = text::<100>)]
        name: String,
    },
    /// List the newest 100 sites
    ListSites,
    /// Make an API key; prints its secret, this once
    CreateKey {
        /// For people
        #[arg(value_parser = text::<100>)]
        name: String,
        /// The site that it is for; an instance-wide key without it
        #[arg(long)]
        site: Option<Uuid>,
        /// What it may do, more than once if need be; everything by default
        #[arg(long = "scope", value_parser = parse_scope)]
        scopes: Vec<Scope>,
    },
    /// Make a member, or find the one with the same external id; prints its id
    CreateMember {
        /// The site
        #[arg(long)]
        site: Uuid,
        /// The site's own id of the person
        #[arg(long, value_parser = text::<256>)]
        external_id: Option<String>,
        /// E-mail address
        #[arg(long, value_parser = text::<256>)]
        email: Option<String>,
        /// Display name
        #[arg(long, value_parser = text::<256>)]
        name: Option<String>,
    },
    /// Make an access token for a member, valid for four hours; prints it
    CreateMemberToken {
        /// The site
        #[arg(long)]
        site: Uuid,
        /// The member
        member: Uuid,
    },
}

/// A text of 1 to `MAX` characters, as the admin API takes it.
fn text<const MAX: usize>(text: &str) -> Result<String, String> {
    match text.chars().count() {
        0 => Err("must not be empty".to_owned()),
        length if length > MAX => Err(format!("must have at most {MAX} characters")),
        _ => Ok(text.to_owned()),
    }
}

fn parse_scope(text: &str) -> Result<Scope, String> {
    Scope::parse(text).ok_or_else(|| {
        let names: Vec<_> = Scope::ALL.iter().map(|scope| scope.as_str()).collect();
        format!("must be one of {}", names.join(", "))
    })
}

/// Runs `command` on the database at `url`; `config` is read only for what needs the master key.
pub(super) async fn run(
    url: &str,
    config: impl FnOnce() -> Result<Config, String>,
    command: AdminCommand,
) -> Result<(), String> {
    let db = &super::serve::open(url).await?;
    let failed = |error: sea_orm::DbErr| format!("the database failed: {error}");
    match command {
        AdminCommand::CreateSite { name } => {
            let tx = db.write().await.map_err(failed)?;
            let site = sites::create_site(&tx, name).await.map_err(failed)?;
            tx.commit().await.map_err(failed)?;
            println!("{}", site.id);
        }
        AdminCommand::ListSites => {
            for site in sites::list_sites(db.read(), None, None, 100).await.map_err(failed)? {
                println!("{}  {}", site.id, site.name);
            }
        }
        AdminCommand::CreateKey { name, site, scopes } => {
            let site = find_site(db, site).await?;
            let all = if site.is_some() { Scope::SiteAdmin } else { Scope::InstanceAdmin };
            let scopes = if scopes.is_empty() { vec![all] } else { scopes };
            if site.is_some() && scopes.contains(&Scope::InstanceAdmin) {
                return Err("a key of one site cannot administer the instance".to_owned());
            }
            let secret = seal::new_secret(api_keys::PREFIX).map_err(|error| error.to_string())?;
            let tx = db.write().await.map_err(failed)?;
            api_keys::create_api_key(&tx, site, name, &scopes, &secret).await.map_err(failed)?;
            tx.commit().await.map_err(failed)?;
            println!("{secret}");
        }
        AdminCommand::CreateMember { site, external_id, email, name } => {
            let site = find_site(db, Some(site)).await?.ok_or("there is no such site")?;
            let tx = db.write().await.map_err(failed)?;
            let new = NewMember { external_id, email, name };
            let (member, _) = members::create_member(&tx, site, new).await.map_err(failed)?;
            tx.commit().await.map_err(failed)?;
            println!("{}", member.id);
        }
        AdminCommand::CreateMemberToken { site, member } => {
            let tokens =
                AccessTokens::load(db, &config()?.sealer).await.map_err(|error| error.to_string())?;
            let grants = Grants::new(db.clone(), tokens);
            let granted = grants.member(SiteId(site), MemberId(member), None).await;
            println!("{}", granted.map_err(|error| error.to_string())?.access);
        }
    }
    Ok(())
}

async fn find_site(db: &Db, site: Option<Uuid>) -> Result<Option<SiteId>, String> {
    let Some(site) = site.map(SiteId) else {
        return Ok(None);
    };
    let found = sites::find_site(db.read(), site).await.map_err(|error| error.to_string())?;
    found.map(|site| Some(site.id)).ok_or_else(|| "there is no such site".to_owned())
}
