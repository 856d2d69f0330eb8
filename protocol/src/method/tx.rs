//! The class `tx`: publishes and acknowledgements that take effect together.

super::methods! {
    class 90;

    /// Makes the channel transactional.
    10 Select "tx.select" () {} ()

    /// Confirms [`Select`].
    11 SelectOk "tx.select-ok" () {} ()

    /// Lets what was gathered take effect, and begins the next transaction.
    20 Commit "tx.commit" () {} ()

    /// Confirms [`Commit`].
    21 CommitOk "tx.commit-ok" () {} ()

    /// Drops what was gathered, and begins the next transaction.
    30 Rollback "tx.rollback" () {} ()

    /// Confirms [`Rollback`].
    31 RollbackOk "tx.rollback-ok" () {} ()
}
