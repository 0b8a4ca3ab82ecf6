# Triton with what the Python models import. The ranking models run on the image's own onnxruntime backend, so the
# stand-in of serving/backends stays out; the onnxruntime package is there for `embed` and `direct`, which use it in
# their process.
#
#   DOCKER_BUILDKIT=1 docker build -f infra/docker/serving.Dockerfile -t lorefuse-triton:0.1.0 .
#
# NVIDIA's bulletins 5828 and 5860 (2026) ask for 26.03 or later. Python has to be 3.12, for which the lock has wheels of
# numpy 1.26: the build stops where it is not.
ARG TRITON_IMAGE=nvcr.io/nvidia/tritonserver:26.09-py3
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
SHELL ["/bin/bash", "-euo", "pipefail", "-c"]
# numpy has to stay below 2: with numpy 2 Triton's Python stub was seen to return garbage without a word. The stub takes the
# system's Python, so the packages go there; the image is nobody else's.
RUN --mount=type=secret,id=pip_conf,target=/etc/pip.conf \
    --mount=type=secret,id=ca_bundle,target=/run/secrets/ca_bundle \
    if [ -s /run/secrets/ca_bundle ]; then export PIP_CERT=/run/secrets/ca_bundle; fi; \
    if [ -z "${PIP_INDEX_URL:-}" ]; then unset PIP_INDEX_URL; fi; \
    PIP_BREAK_SYSTEM_PACKAGES=1 python3 -m pip install --no-cache-dir --no-deps --require-hashes \
      -r /opt/lorefuse/requirements.lock; \
    python3 -c 'import apsw, faiss, google.protobuf.message_factory, mmh3, numpy, onnxruntime, redis, tokenizers; \
      assert numpy.__version__ < "2", numpy.__version__'
ENV PYTHONDONTWRITEBYTECODE=1 \
    OMP_NUM_THREADS=1 \
    GLIBC_TUNABLES=glibc.malloc.hugetlb=1
USER 10001:10001
