#!/usr/bin/env bash
# `make test-containers`: builds the image of the steps and runs the training pipeline in containers of it.
#
# An engine that answers is used; else root starts one of its own (engine.sh) and ends it afterwards. Settings:
#   PYTHON            interpreter with the project and pytest (default .venv/bin/python)
#   IMAGE             name of the image (default lorefuse-python:test); BUILD=0 takes it as it is
#   BASE_IMAGE        base of both stages (default: the Dockerfile's); "debootstrap" makes one from Debian's packages
#   ACCELERATOR       cpu or cuda
#   PIP_CONF          a pip.conf for the build (secret);  CA_BUNDLE  certificates for the build (secret)
#   PIP_FIND_LINKS    a folder of wheels or a URL;  PIP_INDEX_URL, PIP_EXTRA_INDEX_URL, TORCH_CPU_INDEX_URL  as pip's
#   ENGINE_DIR        keep the data of an engine of our own here, for the next run (default: a temporary folder)
set -euo pipefail
cd "$(dirname "$0")/../.."
# shellcheck source=infra/docker/engine.sh
. infra/docker/engine.sh
PYTHON=${PYTHON:-.venv/bin/python}
export IMAGE=${IMAGE:-lorefuse-python:test}
OWN_DIR="" WHEELS_PID=""

cleanup() {
  if [ -n "$WHEELS_PID" ]; then kill "$WHEELS_PID" 2>/dev/null || true; fi
  if [ -n "$OWN_DIR" ]; then
    engine_stop "$OWN_DIR"
    if [ -z "${ENGINE_DIR:-}" ]; then rm -rf "$OWN_DIR"; fi
  fi
}
trap cleanup EXIT

skip() {
  echo "SKIPPED test-containers: $1" >&2
  [ "${REQUIRE_ENGINE:-0}" = 0 ] || exit 1
  exit 0
}

engine_command
if ! engine_answers; then
  why=$(engine_missing)
  [ -z "$why" ] || skip "$why"
  OWN_DIR=${ENGINE_DIR:-$(mktemp -d)}
  engine_start "$OWN_DIR"
fi

# A folder of wheels lies outside the build context: it is served to the build, on this machine's loopback alone.
serve_wheels() {
  local port
  port=$("$PYTHON" -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
  "$PYTHON" -m http.server --bind 127.0.0.1 --directory "$1" "$port" >/dev/null 2>&1 &
  WHEELS_PID=$!
  PIP_FIND_LINKS="http://127.0.0.1:$port/"
}

build() {
  local arguments=() name
  if [ -d "${PIP_FIND_LINKS:-}" ]; then serve_wheels "$PIP_FIND_LINKS"; fi
  if [ "${BASE_IMAGE:-}" = debootstrap ]; then
    base_from_debootstrap lorefuse-base:bookworm
    BASE_IMAGE=lorefuse-base:bookworm
  fi
  for name in BASE_IMAGE ACCELERATOR PIP_INDEX_URL PIP_EXTRA_INDEX_URL PIP_FIND_LINKS PIP_TRUSTED_HOST; do
    if [ -n "${!name:-}" ]; then arguments+=(--build-arg "$name=${!name}"); fi
  done
  # Set and empty means: no index beside the others.
  if [ -n "${TORCH_CPU_INDEX_URL+set}" ]; then arguments+=(--build-arg "TORCH_CPU_INDEX_URL=$TORCH_CPU_INDEX_URL"); fi
  if [ -n "${PIP_CONF:-}" ]; then arguments+=(--secret "id=pip_conf,src=$PIP_CONF"); fi
  if [ -n "${CA_BUNDLE:-}" ]; then arguments+=(--secret "id=ca_bundle,src=$CA_BUNDLE"); fi
  DOCKER_BUILDKIT=1 docker build --network host --progress plain -f infra/docker/Dockerfile -t "$IMAGE" \
    --build-arg "REVISION=$(git rev-parse HEAD 2>/dev/null || echo unknown)" \
    --build-arg "CREATED=$(date -u +%Y-%m-%dT%H:%M:%SZ)" "${arguments[@]}" .
}

if [ "${BUILD:-1}" = 1 ]; then build; fi
docker image inspect -f '{{.Size}}' "$IMAGE" | awk '{printf "Image: %.2f GB\n", $1 / 1e9}'
LOREFUSE_TEST_IMAGE=$IMAGE PYTHONPATH=. "$PYTHON" -m pytest tests/infra/test_containers.py -v -p no:cacheprovider
