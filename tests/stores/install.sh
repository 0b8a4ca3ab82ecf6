#!/bin/sh
# Installs what the tests of production stores start: PostgreSQL and Redis, from Debian's packages. Their services stay
# off: the tests start servers of their own, on spare ports, with folders of their own.
# Never fails: without the packages the tests skip and say so.
set -u
missing=""
ls /usr/lib/postgresql/*/bin/initdb > /dev/null 2>&1 || command -v initdb > /dev/null || missing="postgresql"
command -v redis-server > /dev/null || missing="$missing redis-server"
[ -z "$missing" ] && exit 0
echo "Installing for the tests of production stores:$missing" | sed 's/:\([^ ]\)/: \1/'
if [ "$(id -u)" != 0 ] || ! command -v apt-get > /dev/null; then
    echo "  not root, or no apt-get: install$missing yourself, or these tests skip" | sed 's/install\([^ ]\)/install \1/'
    exit 0
fi
export DEBIAN_FRONTEND=noninteractive
# What a package would start, policy-rc.d refuses to start; the file goes again where it was not there before.
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
    printf '#!/bin/sh\nexit 101\n' > "$policy" && chmod +x "$policy"
    trap 'rm -f "$policy"' EXIT
fi
# shellcheck disable=SC2086  (a list of names)
{ apt-get update -qq && apt-get install -y -qq --no-install-recommends $missing; } > /dev/null 2>&1 ||
    echo "  apt-get could not: these tests skip"
exit 0
