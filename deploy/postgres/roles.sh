#!/bin/bash
# Creates the ledger's roles. Runs once, on an empty volume. No service uses the superuser.
#   worker   owns the ledger's tables, and creates them at its first start
#   auditor  reads them
set -e
psql --quiet --set ON_ERROR_STOP=1 --username "${POSTGRES_USER:-postgres}" --dbname "${POSTGRES_DB:-baozi}" <<'SQL'
\getenv worker_password LEDGER_WORKER_PASSWORD
\getenv auditor_password LEDGER_AUDITOR_PASSWORD
CREATE ROLE worker LOGIN PASSWORD :'worker_password';
CREATE ROLE auditor LOGIN PASSWORD :'auditor_password';
GRANT CREATE ON SCHEMA public TO worker;
ALTER DEFAULT PRIVILEGES FOR ROLE worker IN SCHEMA public GRANT SELECT ON TABLES TO auditor;
SQL
