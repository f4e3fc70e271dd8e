-- The arbiter's ledger as it was before events: one lease.
PRAGMA user_version = 0;
PRAGMA application_id = 0;
BEGIN TRANSACTION;
CREATE TABLE lease (
    id TEXT PRIMARY KEY, client TEXT NOT NULL, model TEXT NOT NULL, gpu TEXT NOT NULL, reserved_mb INTEGER NOT NULL,
    priority INTEGER NOT NULL, ttl_s REAL NOT NULL, expires_s REAL NOT NULL, expires_wall_s REAL NOT NULL,
    granted_s REAL NOT NULL, exclusive_group TEXT NOT NULL, preemptible INTEGER NOT NULL, pids TEXT NOT NULL,
    loaded INTEGER NOT NULL, state TEXT NOT NULL
) WITHOUT ROWID;
INSERT INTO "lease" VALUES('5ec6309b112d97509913025f4f40911d-834d006af9ee5a8a','held','m','static-0',1000,2,900.0,3969.715998901,1.79567790137816953662e+09,3069.715998901,'',0,'1',0,'GRANTED');
CREATE TABLE startup (
    id TEXT PRIMARY KEY, client TEXT NOT NULL, gpus TEXT NOT NULL, leases TEXT NOT NULL, ends_s REAL NOT NULL
) WITHOUT ROWID;
COMMIT;
