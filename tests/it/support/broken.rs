//! Databases that refuse some writes.

use sea_orm::ConnectionTrait as _;

use super::{Backend, TestApp};

impl TestApp {
    /// Makes the database refuse some writes to `table` until [`TestApp::mend_table`]: `when` is `BEFORE INSERT`, `BEFORE UPDATE` or
    /// `BEFORE DELETE`, `only` a condition on NEW or OLD.
    pub async fn break_table(&self, table: &str, when: &str, only: &str) {
        let statements = match self.backend() {
            Backend::Sqlite => vec![format!(
                "CREATE TRIGGER broken {when} ON {table} WHEN {only} BEGIN SELECT RAISE(ABORT, 'broken'); END"
            )],
            Backend::Postgres => vec![
                "CREATE OR REPLACE FUNCTION broken() RETURNS trigger LANGUAGE plpgsql AS \
                 $$ BEGIN RAISE EXCEPTION 'broken'; END $$"
                    .to_owned(),
                format!(
                    "CREATE TRIGGER broken {when} ON {table} FOR EACH ROW WHEN ({only}) EXECUTE FUNCTION broken()"
                ),
            ],
        };
        for statement in statements {
            self.app.db.read().execute_unprepared(&statement).await.unwrap();
        }
    }

    /// Ends what [`TestApp::break_table`] began.
    pub async fn mend_table(&self, table: &str) {
        let on = if self.backend() == Backend::Postgres { format!(" ON {table}") } else { String::new() };
        self.app.db.read().execute_unprepared(&format!("DROP TRIGGER broken{on}")).await.unwrap();
    }
}
