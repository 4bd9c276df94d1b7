//! The history that the database is in: its epoch, the epoch's key, and how many changes there were.

use super::session::{Dialect, Session, Value};
use super::{StoreError, postgres};
use crate::feed::EpochKey;

/// Which history the database is in, and how far.
#[derive(Debug, Clone)]
pub(in crate::registry) struct Meta {
    pub(in crate::registry) epoch: u64,
    pub(in crate::registry) key: EpochKey,
    pub(in crate::registry) seq: u64,
}

/// Makes the first epoch where there is none.
pub(super) async fn ensure_meta(session: &mut Session<'_>) -> Result<(), StoreError> {
    let meta = Meta { epoch: now_ms().cast_unsigned(), key: EpochKey::random()?, seq: 0 };
    let sql = "INSERT INTO meta (id, epoch, key, seq) VALUES (1, $1, $2, $3) ON CONFLICT (id) DO NOTHING";
    session.run(sql, &values_of(&meta)).await?;
    Ok(())
}

fn values_of(meta: &Meta) -> [Value; 3] {
    [meta.epoch.cast_signed().into(), meta.key.to_bytes().to_vec().into(), meta.seq.cast_signed().into()]
}

/// The history that the database is in.
pub(in crate::registry) async fn read_meta(session: &mut Session<'_>) -> Result<Meta, StoreError> {
    let row = session.row("SELECT epoch, key, seq FROM meta", &[]).await?.ok_or(sqlx::Error::RowNotFound)?;
    let key: [u8; EpochKey::LEN] = row
        .octets(1)?
        .try_into()
        .map_err(|_| StoreError::Corrupt("the epoch's key has a wrong length".to_owned()))?;
    let (epoch, seq) = (row.integer(0)?.cast_unsigned(), row.integer(2)?.cast_unsigned());
    Ok(Meta { epoch, key: EpochKey::from_bytes(key), seq })
}

/// Writes the history's row; other processes are told once it is committed.
pub(super) async fn put_meta(session: &mut Session<'_>, meta: &Meta) -> Result<(), StoreError> {
    session.run("UPDATE meta SET epoch = $1, key = $2, seq = $3", &values_of(meta)).await?;
    if session.dialect() == Dialect::Postgres {
        session.run("SELECT pg_notify($1, '')", &[postgres::CHANNEL.into()]).await?;
    }
    Ok(())
}

/// Begins a new epoch with a new key, where the history is still in epoch `from`; changes are counted on.
pub(in crate::registry) async fn new_epoch(
    session: &mut Session<'_>,
    from: Option<u64>,
) -> Result<Meta, StoreError> {
    let mut tx = session.again().begin().await?;
    let mut meta = read_meta(&mut tx.session()).await?;
    if from.is_none_or(|it| it == meta.epoch) {
        turn_epoch(&mut tx.session(), &mut meta).await?;
    }
    tx.commit().await?;
    Ok(meta)
}

/// Begins a new epoch, within a transaction.
pub(super) async fn turn_epoch(session: &mut Session<'_>, meta: &mut Meta) -> Result<(), StoreError> {
    // From the clock, so that a database made anew is not in the epoch of the one before.
    meta.epoch = now_ms().cast_unsigned().max(meta.epoch + 1);
    meta.key = EpochKey::random()?;
    put_meta(session, meta).await
}

/// Unix milliseconds now.
pub(in crate::registry) fn now_ms() -> i64 {
    jiff::Timestamp::now().as_millisecond()
}
