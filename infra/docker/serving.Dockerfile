# Triton with what the Python models import. The ONNX models run on the image's own onnxruntime backend, so the stand-in
# of serving/backends and the onnxruntime package stay out.
#
#   docker build -f infra/docker/serving.Dockerfile -t lorefuse-triton:24.10 .
#
# 24.10 is Triton 2.51.0, the version that the tests of this project run.
ARG TRITON_IMAGE=nvcr.io/nvidia/tritonserver:24.10-py3
# hadolint ignore=DL3006
FROM ${TRITON_IMAGE}
ARG PIP_INDEX_URL
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="lorefuse-triton" \
      org.opencontainers.image.description="Triton with the Python packages of Lorefuse's served models" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
COPY serving/requirements.lock /opt/lorefuse/requirements.lock
# numpy has to stay below 2: with numpy 2 this Triton's Python stub returns garbage without a word.
SHELL ["/bin/bash", "-euo", "pipefail", "-c"]
RUN --mount=type=secret,id=pip_conf,target=/etc/pip.conf \
    --mount=type=secret,id=ca_bundle,target=/run/secrets/ca_bundle \
    if [ -s /run/secrets/ca_bundle ]; then export PIP_CERT=/run/secrets/ca_bundle; fi; \
    if [ -z "${PIP_INDEX_URL:-}" ]; then unset PIP_INDEX_URL; fi; \
    grep -E '^(numpy|redis|async-timeout)==' /opt/lorefuse/requirements.lock > /opt/lorefuse/models.lock; \
    python3 -m pip install --no-cache-dir --no-deps -r /opt/lorefuse/models.lock; \
    python3 -c 'import numpy; assert numpy.__version__ < "2", numpy.__version__'
ENV PYTHONDONTWRITEBYTECODE=1 \
    OMP_NUM_THREADS=1
USER 10001:10001
