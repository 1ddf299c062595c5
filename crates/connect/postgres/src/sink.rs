//! Writes copies into PostgreSQL.
