# Runs a command as an arbitrary user on a read-only root; $1 is the only directory that can be written.
# To be started in a mount namespace of its own, by root. The user may read all, as a checkout may be in root's home.
set -e
mount -t tmpfs -o mode=1777 tmpfs "$1"
shift
mount -o bind,remount,ro /
touch /written 2>/dev/null && { echo "the root file system is not read-only" >&2; exit 99; }
capabilities=-all,+dac_read_search
exec setpriv --reuid 54321 --regid 54321 --clear-groups --inh-caps=$capabilities --ambient-caps=$capabilities \
  --bounding-set=$capabilities "$@"
