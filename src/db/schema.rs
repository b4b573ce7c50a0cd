//! What a running service asks of the schema.

use migration::{Migrator, MigratorTrait as _};
use sea_orm::{ConnectionTrait as _, DbErr, Statement};

use super::Db;

impl Db {
    /// How many steps of this program's the schema lacks. Steps of a newer program, which migrated while this one runs, are no reason to take
    /// a node out of service before its turn to be replaced; only a start refuses them ([`Db::check_schema`]).
    pub async fn steps_behind(&self) -> Result<usize, DbErr> {
        let sql = "SELECT version FROM seaql_migrations";
        let rows = self.read().query_all_raw(Statement::from_string(self.backend(), sql)).await?;
        let applied = rows.iter().map(|row| row.try_get::<String>("", "version"));
        let applied = applied.collect::<Result<Vec<_>, _>>()?;
        let steps = Migrator::get_migration_files();
        Ok(steps.iter().filter(|step| !applied.iter().any(|known| known == step.name())).count())
    }
}
