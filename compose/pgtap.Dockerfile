# Postgres with pgTAP and pg_prove, for the tests in sql/tests.
ARG POSTGRES_IMAGE=postgres:18
FROM ${POSTGRES_IMAGE}
USER root
RUN apt-get update && \
    apt-get install -y --no-install-recommends "postgresql-${PG_MAJOR}-pgtap" libtap-parser-sourcehandler-pgtap-perl && \
    rm -rf /var/lib/apt/lists/*
