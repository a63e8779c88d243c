//! The schema of the database, as numbered migrations.

use tokio_postgres::Client;
use tokio_postgres::types::Type;

use crate::PostgresError;
use crate::error::SERVER_VERSION_MIN;

/// The migrations, from number 1.
const MIGRATIONS: [&str; 2] = [
    include_str!("../migrations/0001_log.sql"),
    include_str!("../migrations/0002_keeper.sql"),
];

/// The number of the last migration.
#[expect(
    clippy::cast_possible_wrap,
    clippy::cast_possible_truncation,
    reason = "they are few"
)]
pub(crate) const NEWEST: i32 = MIGRATIONS.len() as i32;

/// Checks that this version can use the server and its schema.
pub(crate) async fn check(client: &Client) -> Result<(), PostgresError> {
    check_server(client).await?;
    match migrated(client).await? {
        0 => Err(PostgresError::NoSchema),
        found if found < NEWEST => Err(PostgresError::OlderSchema { found }),
        found if found > NEWEST => Err(PostgresError::NewerSchema { found }),
        _ => Ok(()),
    }
}

/// Checks that the server keeps what it acknowledges, unless one that does not is allowed; and waits until its synchronous
/// standbys have what it holds, because a retry is answered from that.
pub(crate) async fn check_durable(
    client: &Client,
    allows_unsafe: bool,
) -> Result<(), PostgresError> {
    const SETTINGS: &str = "SELECT name, setting FROM pg_settings \
        WHERE name IN ('fsync', 'full_page_writes') AND setting <> 'on'";
    if !allows_unsafe && let Some(row) = client.query_typed(SETTINGS, &[]).await?.first() {
        let (name, value): (&str, &str) = (row.try_get(0)?, row.try_get(1)?);
        let setting = format!("{name}={value}");
        return Err(PostgresError::Unsafe { setting });
    }
    await_standbys(client).await
}

/// Waits until the synchronous standbys, if the server has any, have everything that it has committed by now, whatever this
/// session is set to. A commit of which the answer was lost may stand on this server alone.
pub(crate) async fn await_standbys(client: &Client) -> Result<(), PostgresError> {
    // The commit of a transaction that has written waits, and what came before it is in the same write-ahead log.
    const WRITE: &str = "SELECT CASE WHEN current_setting('synchronous_commit') NOT IN ('on', 'remote_apply') \
            THEN set_config('synchronous_commit', 'on', true) END, \
        pg_logical_emit_message(true, 'momentlog', '') \
        WHERE current_setting('synchronous_standby_names') <> '' AND NOT pg_is_in_recovery()";
    client.query_typed(WRITE, &[]).await?;
    Ok(())
}

async fn check_server(client: &Client) -> Result<(), PostgresError> {
    const VERSION: &str = "SELECT current_setting('server_version_num')::int4";
    let row = client.query_typed(VERSION, &[]).await?;
    let found: i32 = row
        .first()
        .ok_or(PostgresError::Untrue("no version"))?
        .try_get(0)?;
    if found < SERVER_VERSION_MIN {
        return Err(PostgresError::OldServer { found });
    }
    Ok(())
}

/// The number of the last migration that was applied; 0 if there is no schema.
async fn migrated(client: &Client) -> Result<i32, PostgresError> {
    const NEWEST: &str = "SELECT coalesce(max(number), 0) FROM momentlog.migrations";
    match client.query_typed(NEWEST, &[]).await.map_err(Into::into) {
        Ok(rows) => Ok(rows
            .first()
            .ok_or(PostgresError::Untrue("no number of a migration"))?
            .try_get(0)?),
        Err(PostgresError::NoSchema) => Ok(0),
        Err(error) => Err(error),
    }
}

/// Applies the migrations that are missing, and makes the log `log` if there is none of that name. Each is whole, or not there.
pub(crate) async fn apply(client: &Client, log: &str) -> Result<(), PostgresError> {
    const MAKE: &str =
        "INSERT INTO momentlog.logs (name) VALUES ($1) ON CONFLICT (name) DO NOTHING";
    check_server(client).await?;
    loop {
        let found = migrated(client).await?;
        if found > NEWEST {
            return Err(PostgresError::NewerSchema { found });
        }
        let Some(migration) = usize::try_from(found)
            .ok()
            .and_then(|at| MIGRATIONS.get(at))
        else {
            break;
        };
        let number = found + 1;
        // The second of two that apply it at the same time fails where the first has committed, and then finds it applied.
        let whole = format!(
            "BEGIN; SELECT pg_advisory_xact_lock(1836016748, 0); {migration}\n\
             INSERT INTO momentlog.migrations (number) VALUES ({number}); COMMIT"
        );
        if let Err(error) = client.batch_execute(&whole).await {
            client.batch_execute("ROLLBACK").await?;
            if migrated(client).await? < number {
                return Err(error.into());
            }
        }
    }
    client.query_typed(MAKE, &[(&log, Type::TEXT)]).await?;
    Ok(())
}
