# One image for the worker and the web server. docker-compose.yml shows how to start each.
FROM python:3.11.15-slim-trixie AS packages

WORKDIR /build
COPY requirements-runtime.txt ./
RUN python -m venv /opt/venv \
 && /opt/venv/bin/pip install --no-cache-dir --require-hashes -r requirements-runtime.txt

FROM python:3.11.15-slim-trixie

ENV PATH=/opt/venv/bin:$PATH \
    PYTHONUNBUFFERED=1

# The user is set by number, because Kubernetes cannot tell from a name that it is not root.
RUN useradd --uid 10001 --no-create-home --shell /usr/sbin/nologin app
COPY --from=packages /opt/venv /opt/venv
WORKDIR /app
COPY worker.py starter.py ./
COPY activities activities
COPY workflows workflows
COPY smart_accounts smart_accounts
USER 10001

# Last, because each build has another id and the layers above stay the same. --version and /healthz
# show it. It does not make a worker versioned; TEMPORAL_WORKER_BUILD_ID does.
ARG BUILD_ID=""
ENV SMART_ACCOUNTS_BUILD_ID=$BUILD_ID
LABEL org.opencontainers.image.revision=$BUILD_ID

EXPOSE 8000
# This checks the worker if SMART_ACCOUNTS_HEALTH_ADDRESS is set, and otherwise the web server.
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s --start-interval=1s --retries=3 \
    CMD ["python", "-c", "from os import environ; from urllib.request import urlopen; urlopen(f\"http://{environ.get('SMART_ACCOUNTS_HEALTH_ADDRESS') or '127.0.0.1:' + environ.get('SMART_ACCOUNTS_WEB_PORT', '8000')}/healthz\", timeout=4)"]

CMD ["python", "-m", "smart_accounts.web"]
