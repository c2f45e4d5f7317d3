#!/bin/sh
# Runs once, in the database's container, while its volume is empty.
# Deskhand's user is no superuser: a superuser is exempt from the row-level security
# that decides who may read what. The superuser then has no password, so that it can
# only be used from inside: docker compose exec database psql
set -eu
psql --no-psqlrc --quiet --set ON_ERROR_STOP=1 --username "$POSTGRES_USER" --dbname postgres \
    --set superuser="$POSTGRES_USER" --set password="$(cat "$POSTGRES_PASSWORD_FILE")" <<'SQL'
create role deskhand login createrole password :'password';
create database deskhand owner deskhand;
\connect deskhand
create extension vector schema public;
create extension pg_trgm schema public;
alter role :"superuser" password null;
SQL
