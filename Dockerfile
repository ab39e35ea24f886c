# The operator's image: the pinned runtime dependencies and the package, nothing else; runs as nobody in particular.
FROM python:3.13-slim AS build
WORKDIR /src
COPY requirements/runtime.txt requirements/dev.txt requirements/
COPY pyproject.toml README.md LICENSE ./
COPY operator operator
RUN python -m venv /venv \
 && /venv/bin/pip install --no-cache-dir --require-hashes --requirement requirements/runtime.txt \
 && python -m venv /build \
 && /build/bin/pip install --no-cache-dir --require-hashes --requirement requirements/dev.txt \
 && /build/bin/pip wheel --no-cache-dir --no-build-isolation --no-deps --wheel-dir /wheels . \
 && /venv/bin/pip install --no-cache-dir --no-deps --no-index /wheels/*.whl

FROM python:3.13-slim
COPY --from=build /venv /venv
ENV PATH=/venv/bin:$PATH PYTHONUNBUFFERED=1 BUILDKITE_CONNECTOR_DATA_DIR=/data
RUN mkdir /data && chown 65532:65532 /data
USER 65532:65532
ENTRYPOINT ["buildkite-connector"]
CMD ["operator"]
