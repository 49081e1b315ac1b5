"""FLOOR 1. Postgres: the only importer of asyncpg; statements in .sql files beside the module that runs them."""
