//! The ledger, G4: numbered without gaps, guarded by the database itself, and proven by `verify`, which names the entry
//! that is wrong.

use std::process::Command;

use entity::id::{AccountId, SiteId};
use entity::ledger_entry;
use followpoints::accounts;
use followpoints::members::{self, NewMember};
use followpoints::points::verify::{self, Fault, Report};
use followpoints::rows;
use futures_util::future::join_all;
use sea_orm::{ColumnTrait as _, ConnectionTrait as _, EntityTrait as _, QueryFilter as _, QueryOrder as _};
use serde_json::json;
use uuid::Uuid;

use crate::on_both;
use crate::support::world::{Site, text};
use crate::support::{ADMIN_KEY, Backend, Options, TestApp, TestDatabase};

/// A site where three channels give points: X 50, INSTAGRAM 30, FACEBOOK 20.
async fn paying_site(app: &TestApp) -> Site {
    let site = app.site().await;
    let body = json!({"socialMediaSettings": {"channels": [{"type": "FACEBOOK", "points": 20}]}});
    app.call("PATCH", "/admin/v1/social-media-settings").key(ADMIN_KEY, &site.id).json(&body).ok().await;
    site
}

/// A new account with the entries +50, +30 and +20.
async fn account_with_three_entries(app: &TestApp, site: &Site, name: &str) -> AccountId {
    let member = app.member(site, name).await;
    for channel in ["X", "INSTAGRAM", "FACEBOOK"] {
        app.follow(&member, channel).await;
    }
    AccountId(text(&app.account(&member).await["id"]).parse().unwrap())
}

async fn entries(app: &TestApp, account: AccountId) -> Vec<ledger_entry::Model> {
    ledger_entry::Entity::find()
        .filter(ledger_entry::Column::AccountId.eq(account))
        .order_by_asc(ledger_entry::Column::Sequence)
        .all(app.app.db.read())
        .await
        .unwrap()
}

async fn run_sql(app: &TestApp, sql: &str) -> Result<(), String> {
    app.app.db.read().execute_unprepared(sql).await.map(|_| ()).map_err(|error| error.to_string())
}

/// An id as it is written in SQL text.
fn literal(app: &TestApp, id: Uuid) -> String {
    match app.backend() {
        Backend::Sqlite => format!("x'{}'", id.simple()),
        Backend::Postgres => format!("'{id}'"),
    }
}

/// Takes away what keeps the ledger from being changed, as somebody with the database's password could.
async fn take_the_guard_away(app: &TestApp) {
    let triggers: &[&str] = match app.backend() {
        Backend::Sqlite => &["ledger_entry_no_update", "ledger_entry_no_delete"],
        Backend::Postgres => &["ledger_entry_no_change ON ledger_entry"],
    };
    for trigger in triggers {
        run_sql(app, &format!("DROP TRIGGER {trigger}")).await.unwrap();
    }
}

async fn verified(app: &TestApp) -> Report {
    verify::verify(app.app.db.read(), |_| {}).await.unwrap()
}

/// Runs `followpoints verify` on the app's database; gives success, standard output and standard error.
fn verify_command(app: &TestApp) -> (bool, String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_followpoints"))
        .arg("verify")
        .env_clear()
        .env("FOLLOWPOINTS_DATABASE_URL", app.database_url())
        .output()
        .unwrap();
    let [stdout, stderr] = [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).unwrap());
    (output.status.success(), stdout, stderr)
}

on_both! {
    async fn g4_entries_are_numbered_without_gaps_and_state_the_balance_after_them(app: &TestApp) {
        let site = paying_site(app).await;
        let mut members = Vec::new();
        for number in 0..5 {
            members.push(app.member(&site, &format!("u-{number}")).await);
        }
        // Refused follows in between must not take numbers.
        let calls = ["X", "TIKTOK", "X", "INSTAGRAM", "FACEBOOK", "INSTAGRAM"].iter().flat_map(|channel| {
            members.iter().map(move |member| {
                app.call("POST", "/loyalty-social-media/v1/followed-channels")
                    .auth(&member.token)
                    .json(&json!({"followedChannel": {"channel": channel}}))
                    .send()
            })
        });
        join_all(calls).await;

        for member in &members {
            let account = AccountId(text(&app.account(member).await["id"]).parse().unwrap());
            let entries = entries(app, account).await;
            let numbers: Vec<_> = entries.iter().map(|entry| entry.sequence).collect();
            assert_eq!(numbers, [1, 2, 3]);
            let mut sum = 0;
            for entry in &entries {
                sum += entry.amount;
                assert_eq!(entry.balance_after, sum);
            }
            assert_eq!(sum, 100);
        }
        assert_eq!(verified(app).await, Report { accounts: 5, entries: 15, faults: Vec::new() });
    }
}

on_both! {
    async fn g4_the_database_refuses_to_change_or_remove_an_entry(app: &TestApp) {
        let site = paying_site(app).await;
        let account = account_with_three_entries(app, &site, "u-1").await;
        let before = entries(app, account).await;

        let mut statements = vec![
            "UPDATE ledger_entry SET amount = 9999",
            "UPDATE ledger_entry SET description = 'x' WHERE sequence = 2",
            "DELETE FROM ledger_entry",
            "DELETE FROM ledger_entry WHERE sequence = 3",
            "DELETE FROM account",
            "INSERT INTO ledger_entry SELECT * FROM ledger_entry WHERE sequence = 2 \
             ON CONFLICT (account_id, sequence) DO UPDATE SET amount = 9999",
        ];
        if app.backend() == Backend::Postgres {
            statements.extend(["TRUNCATE ledger_entry", "TRUNCATE account CASCADE"]);
        }
        for sql in statements {
            let refused = run_sql(app, sql).await.expect_err(sql);
            let is_refusal = refused.contains("the ledger is append-only");
            assert!(is_refusal, "{sql}: {refused}");
        }

        assert_eq!(entries(app, account).await, before);
    }
}

/// SQLite has a second way to remove a row: `REPLACE`.
#[tokio::test]
async fn g4_an_entry_cannot_be_replaced_on_sqlite() {
    let database = TestDatabase::new(Backend::Sqlite).await.unwrap();
    let app = TestApp::start(database, Options::default()).await;
    let site = paying_site(&app).await;
    let account = account_with_three_entries(&app, &site, "u-1").await;
    let before = entries(&app, account).await;

    let sql = "INSERT OR REPLACE INTO ledger_entry (account_id, sequence, id, site_id, amount, balance_after, \
               entry_type, description, channel, award_key, created_at) \
               SELECT account_id, sequence, id, site_id, 9999, balance_after, entry_type, description, channel, \
               award_key, created_at FROM ledger_entry WHERE sequence = 2";
    let refused = run_sql(&app, sql).await;

    assert_eq!(entries(&app, account).await, before);
    assert!(refused.is_err_and(|error| error.contains("the ledger is append-only")));
    app.app.stop().await;
}

/// The account that was tampered with and its entries before.
struct Names {
    account: AccountId,
    entries: Vec<ledger_entry::Model>,
}

impl Names {
    fn entry(&self, number: usize, what: &str) -> Fault {
        let entry = &self.entries[number - 1];
        Fault::Entry {
            account: self.account,
            entry: entry.id,
            sequence: entry.sequence,
            what: what.to_owned(),
        }
    }

    fn account(&self, what: &str) -> Fault {
        Fault::Account { account: self.account, what: what.to_owned() }
    }
}

/// A way to tamper with `{account}`, and the faults that must be found; `{other}` is the id of another site.
type Tampering = (&'static str, fn(&Names) -> Vec<Fault>);

const OF_ENTRIES: &[Tampering] = &[
    ("UPDATE ledger_entry SET amount = 31 WHERE account_id = {account} AND sequence = 2", |names| {
        vec![
            names.entry(2, "balance 50 before it and amount 31 do not give the 80 it states"),
            names.account("its earned is 100, its ledger says 101"),
        ]
    }),
    ("UPDATE ledger_entry SET balance_after = 81 WHERE account_id = {account} AND sequence = 2", |names| {
        vec![
            names.entry(2, "balance 50 before it and amount 30 do not give the 81 it states"),
            names.entry(3, "balance 81 before it and amount 20 do not give the 100 it states"),
        ]
    }),
    ("DELETE FROM ledger_entry WHERE account_id = {account} AND sequence = 2", |names| {
        vec![
            names.entry(3, "entry number 2 is missing before it"),
            names.entry(3, "balance 50 before it and amount 20 do not give the 100 it states"),
            names.account("its earned is 100, its ledger says 70"),
            names.account("its number of entries is 3, its ledger says 2"),
        ]
    }),
    ("DELETE FROM ledger_entry WHERE account_id = {account} AND sequence = 3", |names| {
        vec![
            names.account("its balance is 100, its ledger says 80"),
            names.account("its earned is 100, its ledger says 80"),
            names.account("its number of entries is 3, its ledger says 2"),
        ]
    }),
    (
        "UPDATE ledger_entry SET entry_type = 'ADJUST' WHERE account_id = {account} AND sequence = 1",
        |names| {
            vec![
                names.account("its earned is 100, its ledger says 50"),
                names.account("its adjusted is 0, its ledger says 50"),
            ]
        },
    ),
    (
        "INSERT INTO ledger_entry SELECT account_id, 4, {other}, site_id, 7, 107, entry_type, description, NULL, NULL, \
         created_at FROM ledger_entry WHERE account_id = {account} AND sequence = 3",
        |names| {
            vec![
                names.account("its balance is 100, its ledger says 107"),
                names.account("its earned is 100, its ledger says 107"),
                names.account("its number of entries is 3, its ledger says 4"),
            ]
        },
    ),
    // Looked for after all accounts.
    ("UPDATE ledger_entry SET site_id = {other} WHERE account_id = {account} AND sequence = 1", |names| {
        vec![names.entry(1, "its site has no such account")]
    }),
];

const OF_ACCOUNTS: &[Tampering] = &[
    ("UPDATE account SET balance = 101 WHERE id = {account}", |names| {
        vec![names.account("its balance is 101, its ledger says 100")]
    }),
    ("UPDATE account SET redeemed = 5, expired = 6 WHERE id = {account}", |names| {
        vec![
            names.account("its redeemed is 5, its ledger says 0"),
            names.account("its expired is 6, its ledger says 0"),
        ]
    }),
    ("DELETE FROM followed_channel WHERE account_id = {account} AND channel = 'INSTAGRAM'", |names| {
        vec![names.entry(2, "it awards points for INSTAGRAM, which the account does not follow")]
    }),
];

/// Makes an account for each of `tamperings`, tampers with it, and compares everything that `verify` finds.
async fn tamper_and_verify(app: &TestApp, tamperings: &[Tampering]) {
    let (site, other) = (paying_site(app).await, app.site().await);
    take_the_guard_away(app).await;
    let other = literal(app, other.id.parse().unwrap());
    let mut expected = Vec::new();
    for (number, (sql, faults)) in tamperings.iter().enumerate() {
        app.clock.advance_ms(1);
        let account = account_with_three_entries(app, &site, &format!("u-{number}")).await;
        let names = Names { account, entries: entries(app, account).await };
        assert_eq!(verified(app).await.faults, expected, "before {sql}");

        let sql = sql.replace("{account}", &literal(app, account.0)).replace("{other}", &other);
        run_sql(app, &sql).await.unwrap();

        expected.extend(faults(&names));
        assert_eq!(verified(app).await.faults, expected, "after {sql}");
    }
}

on_both! {
    async fn g4_verify_names_the_entry_that_is_wrong(app: &TestApp) {
        tamper_and_verify(app, OF_ENTRIES).await;
    }
}

on_both! {
    async fn g4_verify_names_the_account_whose_figures_or_follows_do_not_fit_its_ledger(app: &TestApp) {
        tamper_and_verify(app, OF_ACCOUNTS).await;
    }
}

on_both! {
    /// Nothing of the figures is wrong here, and yet the same channel paid twice.
    async fn g1_verify_finds_a_channel_that_was_awarded_twice(app: &TestApp) {
        let site = paying_site(app).await;
        take_the_guard_away(app).await;
        let account = literal(app, account_with_three_entries(app, &site, "u-1").await.0);
        let id = literal(app, Uuid::from_u128(7));

        let sql = format!(
            "INSERT INTO ledger_entry SELECT account_id, 4, {id}, site_id, 50, 150, entry_type, description, channel, \
             NULL, created_at FROM ledger_entry WHERE account_id = {account} AND sequence = 1"
        );
        run_sql(app, &sql).await.unwrap();
        let sql = format!("UPDATE account SET balance = 150, earned = 150, ledger_sequence = 4 WHERE id = {account}");
        run_sql(app, &sql).await.unwrap();

        assert_eq!(verified(app).await.faults.len(), 1);
    }
}

on_both! {
    async fn g4_verify_names_an_entry_whose_account_does_not_exist(app: &TestApp) {
        let site = paying_site(app).await;
        let account = account_with_three_entries(app, &site, "ada").await;
        let (account, nobody) = (literal(app, account.0), literal(app, Uuid::from_u128(9)));
        let id = literal(app, Uuid::from_u128(7));

        let sql = format!(
            "INSERT INTO ledger_entry (account_id, sequence, id, site_id, amount, balance_after, entry_type, description, \
             created_at) SELECT {nobody}, 1, {id}, site_id, 50, 50, entry_type, description, created_at \
             FROM ledger_entry WHERE account_id = {account} AND sequence = 1"
        );
        run_sql(app, &sql).await.unwrap();

        let report = verified(app).await;
        assert_eq!(report.entries, 4);
        let faults: Vec<_> = report.faults.iter().map(ToString::to_string).collect();
        assert_eq!(
            faults,
            [format!(
                "account {}: entry {} (number 1) is wrong: its site has no such account",
                Uuid::from_u128(9),
                Uuid::from_u128(7)
            )]
        );
    }
}

on_both! {
    async fn g4_verify_looks_at_every_account_however_many_there_are(app: &TestApp) {
        let site = SiteId(app.site().await.id.parse().unwrap());
        let tx = app.app.db.write().await.unwrap();
        let mut rows = Vec::new();
        for _ in 0..1_001 {
            let (member, _) = members::create_member(&tx, site, NewMember::default()).await.unwrap();
            rows.push(accounts::new_account(&tx, site, member.id, member.contact_id));
        }
        let last = rows.last_mut().unwrap();
        last.balance = 1;
        let last = last.id;
        let write = accounts::insertion(&tx, &rows.iter().collect::<Vec<_>>());
        rows::write_all(tx.conn(), vec![write]).await.unwrap();
        tx.commit().await.unwrap();

        let mut pages = Vec::new();
        let report =
            verify::verify(app.app.db.read(), |so_far| pages.push(so_far.accounts)).await.unwrap();

        let what = "its balance is 1, its ledger says 0".to_owned();
        let faults = vec![Fault::Account { account: last, what }];
        assert_eq!(report, Report { accounts: 1_001, entries: 0, faults });
        assert_eq!(pages, [500, 1_000, 1_001]);
    }
}

on_both! {
    async fn g4_the_verify_command_prints_what_is_wrong_and_fails(app: &TestApp) {
        let site = paying_site(app).await;
        let account = account_with_three_entries(app, &site, "u-1").await;
        let sound = "accounts: 1, ledger entries: 3\nevery balance is the sum of its entries\n";
        // The service may go on running meanwhile.
        assert_eq!(verify_command(app), (true, sound.to_owned(), String::new()));

        take_the_guard_away(app).await;
        run_sql(app, "UPDATE ledger_entry SET amount = 31 WHERE sequence = 2").await.unwrap();

        let entry = entries(app, account).await[1].id;
        let stdout = format!(
            "accounts: 1, ledger entries: 3\n\
             account {account}: entry {entry} (number 2) is wrong: balance 50 before it and amount 31 do not give the 80 \
             it states\n\
             account {account}: its earned is 100, its ledger says 101\n"
        );
        let stderr = "followpoints: 2 fault(s) in the ledger\n".to_owned();
        assert_eq!(verify_command(app), (false, stdout, stderr));
    }
}

on_both! {
    async fn g4_a_ledger_that_grows_while_it_is_proven_is_sound(app: &TestApp) {
        let site = app.site().await;
        let mut members = Vec::new();
        for number in 0..40 {
            members.push(app.member(&site, &format!("u-{number}")).await);
        }
        let follows = async {
            for channel in ["X", "INSTAGRAM"] {
                futures_util::future::join_all(members.iter().map(|member| app.follow(member, channel))).await;
            }
        };
        let proofs = async {
            let mut faults = Vec::new();
            for _ in 0..60 {
                faults.extend(verify::verify(app.app.db.read(), |_| {}).await.unwrap().faults);
            }
            faults
        };
        let ((), faults) = tokio::join!(follows, proofs);
        assert_eq!(faults, []);
    }
}
