#!/bin/sh
# The Debian packages that some tests run their counterparts from: installed where that needs no password,
# else named; the tests that need them are then skipped with that reason, and with CI=true they fail.
set -eu

missing=""
if ! command -v initdb >/dev/null && ! ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1; then
    missing="$missing postgresql"
fi
command -v Orthanc >/dev/null || missing="$missing orthanc"
[ -e /usr/share/orthanc/plugins/libOrthancDicomWeb.so ] || missing="$missing orthanc-dicomweb"
command -v dciodvfy >/dev/null || missing="$missing dicom3tools"
command -v chromium >/dev/null || missing="$missing chromium"
[ -n "$missing" ] || exit 0

if ! command -v apt-get >/dev/null; then
    echo "not installed, and there is no apt-get: the tests that need$missing are skipped" >&2
    exit 0
fi
if [ "$(id -u)" -eq 0 ]; then
    as_root=""
elif command -v sudo >/dev/null && sudo -n true 2>/dev/null; then
    as_root="sudo"
else
    echo "the tests that need$missing are skipped; to run them: sudo apt-get install --no-install-recommends$missing" >&2
    exit 0
fi

# The tests start servers of their own, so the packages shall neither make nor start one of the system's.
quiet=/etc/postgresql-common/createcluster.d/mdal-ciml-tests.conf
policy=/usr/sbin/policy-rc.d # 101: whoever installs a service must not start it
made=""
trap '$as_root rm -f "$quiet" $made' EXIT
$as_root mkdir -p "$(dirname "$quiet")"
echo "create_main_cluster = false" | $as_root tee "$quiet" >/dev/null
if [ ! -e "$policy" ]; then
    made="$policy"
    printf '#!/bin/sh\nexit 101\n' | $as_root tee "$policy" >/dev/null
    $as_root chmod +x "$policy"
fi
if ! {
    $as_root apt-get -q update &&
        $as_root env DEBIAN_FRONTEND=noninteractive apt-get -q install -y --no-install-recommends $missing
}; then
    echo "could not be installed, so the tests that need$missing are skipped" >&2
fi
