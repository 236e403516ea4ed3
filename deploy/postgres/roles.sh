#!/bin/bash
# Run once, on an empty volume: the ledger's roles. The superuser is nobody's at work.
#   worker   owns the ledger's tables, which it makes on its first start
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
