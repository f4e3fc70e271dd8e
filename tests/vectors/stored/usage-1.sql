-- What was used, as the first version counted it: three streams.
PRAGMA user_version = 0;
PRAGMA application_id = 1214534773;
BEGIN TRANSACTION;
CREATE TABLE held (
    host TEXT NOT NULL, lease TEXT NOT NULL, backend TEXT NOT NULL, since_ms INTEGER NOT NULL,
    PRIMARY KEY (host, lease)
) STRICT, WITHOUT ROWID;
CREATE TABLE leased (
    hour INTEGER NOT NULL, backend TEXT NOT NULL, gpu_ms INTEGER NOT NULL, PRIMARY KEY (hour, backend)
) STRICT, WITHOUT ROWID;
CREATE TABLE place (stream TEXT PRIMARY KEY, sequence INTEGER NOT NULL) STRICT, WITHOUT ROWID;
INSERT INTO "place" VALUES('EVENTS',5);
CREATE TABLE used (
    hour INTEGER NOT NULL, tenant TEXT NOT NULL, key TEXT NOT NULL, model TEXT NOT NULL, backend TEXT NOT NULL,
    streams INTEGER NOT NULL, prompt INTEGER NOT NULL, completion INTEGER NOT NULL, slot_ms INTEGER NOT NULL,
    PRIMARY KEY (hour, tenant, key, model, backend)
) STRICT, WITHOUT ROWID;
INSERT INTO "used" VALUES(498799,'acme','k-8949bcf1ba15','sim-chat','simulator-vllm',3,30,15,589);
COMMIT;
