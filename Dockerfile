# The operator's image: the pinned runtime dependencies and the package, nothing else; runs as nobody in particular.
# Any platform: docker buildx build --platform linux/amd64,linux/arm64 .
# A release pins the base by digest: --build-arg PYTHON=python:3.13-slim@sha256:…
# `make image` builds the same without an engine.
ARG PYTHON=python:3.13-slim

FROM ${PYTHON} AS build
WORKDIR /src
COPY requirements/runtime.txt requirements/dev.txt requirements/
COPY pyproject.toml README.md LICENSE ./
COPY operator operator
COPY tools/prune_image.py tools/
RUN pip install --no-cache-dir --no-compile --require-hashes --target /app --requirement requirements/runtime.txt \
 && python -m venv /build \
 && /build/bin/pip install --no-cache-dir --require-hashes --requirement requirements/dev.txt \
 && /build/bin/pip wheel --no-cache-dir --no-build-isolation --no-deps --wheel-dir /wheels . \
 && pip install --no-cache-dir --no-compile --no-deps --no-index --target /app /wheels/*.whl \
 && python tools/prune_image.py /app

FROM ${PYTHON}
COPY --from=build /app /app
# No code from where the pod's user may write: neither the working directory nor the home is searched for modules.
ENV PYTHONPATH=/app PYTHONSAFEPATH=1 PYTHONNOUSERSITE=1 PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 HOME=/ BUILDKITE_CONNECTOR_DATA_DIR=/data
RUN mkdir /data && chmod 1777 /data
USER 65532:65532
WORKDIR /
# Without an argument it takes the place of the vendor's connector (docs/migration.md); the chart runs `operator`.
ENTRYPOINT ["python3", "-m", "buildkite_connector"]
