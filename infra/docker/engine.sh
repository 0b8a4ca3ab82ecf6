#!/usr/bin/env bash
# Functions around a container engine, sourced by test_containers.sh: use the one that answers, or start one of our own.
#
# Our own is Debian's dockerd without a bridge and without iptables rules, so it runs inside a sandbox too; its
# containers use the host's network. Its data, socket, pid and log lie in ENGINE_DIR; engine_stop ends it by its pid.

# Puts a docker command that can build with BuildKit first on PATH: one with buildx, or one so old that it is built in.
engine_command() {
  local command
  while read -r command; do
    if "$command" buildx version >/dev/null 2>&1 || "$command" --version | grep -qE 'version (19|20)\.'; then
      PATH="$(dirname "$command"):$PATH"
      return 0
    fi
  done < <(type -ap docker)
}

engine_answers() { docker info >/dev/null 2>&1; }

# Why no engine can be started here; nothing when one can.
engine_missing() {
  command -v docker >/dev/null || { echo "no docker command (Debian: apt-get install docker.io)"; return; }
  command -v dockerd >/dev/null || { echo "no engine answers, and there is no dockerd to start one"; return; }
  [ "$(id -u)" = 0 ] || echo "no engine answers, and only root can start one"
}

engine_start() {
  local dir=$1
  mkdir -p "$dir/data" "$dir/exec"
  export DOCKER_HOST="unix://$dir/docker.sock"
  engine_answers && return 0
  # Without the oom score and the ulimits dockerd asks for rights that a sandbox does not give.
  dockerd --bridge=none --iptables=false --ip6tables=false --oom-score-adjust 0 \
    --default-ulimit nofile=1024:1024 --default-ulimit nproc=4096:4096 --storage-driver overlay2 \
    --data-root "$dir/data" --exec-root "$dir/exec" --pidfile "$dir/docker.pid" -H "$DOCKER_HOST" \
    >"$dir/dockerd.log" 2>&1 &
  for _ in $(seq 60); do
    engine_answers && return 0
    sleep 0.5
  done
  echo "The engine did not start; the end of its log:" >&2
  tail -5 "$dir/dockerd.log" >&2
  return 1
}

engine_stop() {
  local dir=$1 pid
  pid=$(cat "$dir/docker.pid" 2>/dev/null) || return 0
  kill "$pid" 2>/dev/null || return 0
  for _ in $(seq 40); do
    kill -0 "$pid" 2>/dev/null || break
    sleep 0.5
  done
  # The host's network namespace, which containers used, stays mounted there, and the folder could not be removed.
  umount "$dir/exec/netns/default" 2>/dev/null || true
}

# Makes a base image from Debian's packages, where no image registry can be reached.
base_from_debootstrap() {
  local name=$1 root
  docker image inspect "$name" >/dev/null 2>&1 && return 0
  command -v debootstrap >/dev/null || { echo "no debootstrap (Debian: apt-get install debootstrap)" >&2; return 1; }
  root=${ROOTFS_DIR:-$(mktemp -d)}
  if [ ! -x "$root/usr/bin/python3" ]; then
    debootstrap --variant=minbase --include=python3,python3-pip,python3-venv,ca-certificates \
      bookworm "$root" "${DEBIAN_MIRROR:-http://deb.debian.org/debian}"
  fi
  tar -C "$root" -c . | docker import - "$name"
  [ -n "${ROOTFS_DIR:-}" ] || rm -rf "$root"
}
