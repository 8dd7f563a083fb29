# One image per service: docker build --build-arg SERVICE=api --build-arg EXTRAS=api,postgres -t gigpo-api .
FROM python:3.11-slim
ARG SERVICE
ARG EXTRAS=${SERVICE}
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PYTHONUNBUFFERED=1
WORKDIR /app
COPY constraints.txt pyproject.toml README.md ./
COPY gigpo_core gigpo_core
COPY proto proto
COPY services services
COPY client client
COPY examples examples
RUN pip install --constraint constraints.txt ".[${EXTRAS}]" \
    && useradd --system --uid 10001 gigpo && mkdir /data && chown gigpo /data
USER gigpo
ENV SERVICE=${SERVICE}
CMD ["sh", "-c", "exec python -m services.$SERVICE.main"]
