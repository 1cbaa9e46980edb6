# syntax=docker/dockerfile:1
# The server and nothing else: no pandas, no scikit-learn, no compiler, no notebooks; not root.
#
#   docker build -t model .                                   the bundle of the last run inside (data/package/bundle.tar)
#   docker build -t models --target registry .                no bundle: models come from a registry
#
# deploy/README.md says how it is run. A server that others can reach needs keys (`mlcycle keys make`), and answers with no draft.
# The prediction log is kept in /var/lib/serve: mount something there, or name a database (--log postgresql://...).

ARG PYTHON=3.11-slim-bookworm

FROM python:${PYTHON} AS install
# serve is all it needs; serve,s3 for a registry at s3://, serve,postgres for a log in PostgreSQL
ARG EXTRAS=serve,s3,postgres
WORKDIR /src
COPY pyproject.toml settings.ini README.md LICENSE constraints.txt ./
COPY mlcycle mlcycle
RUN python -m venv /opt/venv \
 && /opt/venv/bin/pip install --no-cache-dir --disable-pip-version-check -c constraints.txt ".[${EXTRAS}]" \
 && /opt/venv/bin/pip uninstall -y --disable-pip-version-check pip setuptools

FROM python:${PYTHON} AS registry
RUN groupadd --gid 10001 serve && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /var/lib/serve --shell /usr/sbin/nologin serve \
 && install -d -o 10001 -g 10001 -m 0750 /var/lib/serve && install -d /etc/serve
COPY --from=install /opt/venv /opt/venv
ENV PATH=/opt/venv/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 ORT_DISABLE_TELEMETRY=1
WORKDIR /var/lib/serve
USER 10001:10001
EXPOSE 8000
# ready: every model that is wanted answers
HEALTHCHECK --interval=10s --timeout=3s --start-period=10s --retries=3 \
  CMD ["python", "-c", "import urllib.request as u; u.urlopen('http://127.0.0.1:8000/health/ready', timeout=2)"]
ENTRYPOINT ["mlcycle", "serve", "--host", "0.0.0.0", "--port", "8000", "--keys", "/etc/serve/keys.json", "--state", "/var/lib/serve"]

FROM registry AS bundle
COPY --chmod=0444 data/package/bundle.tar /srv/bundle.tar
CMD ["--bundle", "/srv/bundle.tar"]
