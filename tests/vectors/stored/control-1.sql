-- The key store as the first version made it (schema 1): one key. Its secrets are nobody's.
PRAGMA user_version = 1;
PRAGMA application_id = 1214534243;
BEGIN TRANSACTION;
CREATE TABLE keys (
        id TEXT PRIMARY KEY,
        sha256 TEXT NOT NULL UNIQUE,
        tenant TEXT NOT NULL,
        note TEXT NOT NULL DEFAULT '',
        created_at INTEGER NOT NULL,
        revoked_at INTEGER
    ) STRICT;
INSERT INTO "keys" VALUES('k-77f3bdd94ff6','4a754813d4f319a482959151912b27a1bd3d57fb9fab5cf92807ca697f8fbb5b','acme','',1795677358,NULL);
CREATE TABLE meta (changes INTEGER NOT NULL) STRICT;
INSERT INTO "meta" VALUES(2);
CREATE TABLE secrets (name TEXT PRIMARY KEY, value BLOB NOT NULL, created_at INTEGER NOT NULL) STRICT;
INSERT INTO "secrets" VALUES('client-tokens',X'E198E04F441A1E1B5FAA2D53498DA8DCEB876D0A0CF2504E5D495B591D4AAE14',1795677357);
INSERT INTO "secrets" VALUES('stream-ids',X'BCB0E473089F2DE7FE94BC42A341F49AA4F59E525D7365EBB433BC652862F148',1795677357);
CREATE TABLE tenants (name TEXT PRIMARY KEY, settings TEXT NOT NULL) STRICT;
INSERT INTO "tenants" VALUES('acme','{"name":"acme","tenant_class":"default","max_priority":1,"requests_per_minute":0,"tokens_per_minute":0,"max_streams":0}');
COMMIT;
