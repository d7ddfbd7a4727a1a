# shellcheck shell=bash
# shellcheck disable=SC2034 # who sources this reads the variables
# What all scripts share: pinned versions, the layout of the cache, messages, and how a kernel tree is called.
# Sourced after `set -euo pipefail`; it only sets variables.
#
# The cache lies outside the tree (CAIRNFS_CACHE=), and every entry's name says what it was made from, so that
# two checkouts or two compilers share it without harm:
#
#   src/linux-<package version>/            the unpacked kernel source
#   bindgen-<version>/bin/bindgen
#   virtme-ng-<version>/bin/vng             a Python venv
#   kernel-<version>-<flavour>-<key>/       a kernel build tree; the key covers fragment, rustc, bindgen, C compiler
#   target-<key>/                           cargo's target directory for tools and tests
#   logs/                                   the full output of every step of set-up
#
# An entry counts only when it holds the file .complete, written last: an interrupted step leaves none and is redone.

REPOSITORY=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
# Cron jobs and some CI runners set no HOME.
export HOME=${HOME:-$(getent passwd "$(id -u)" | cut -d: -f6)}
CAIRNFS_CACHE=${CAIRNFS_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/cairnfs}

# Pins. Where the archive has moved on, set-up takes the newest of the same series and says so.
RUST_SERIES=1.96
RUST_PACKAGE_VERSION='1.96.0+dfsg1-1~deb12u2'
KERNEL_SERIES=6.12
KERNEL_PACKAGE_VERSION='6.12.117-1~deb12u1'
LLVM_MAJOR=19
BINDGEN_VERSION=0.73.2
VIRTME_NG_VERSION=1.42

# Everything comes from the distribution's own folders: a rustup toolchain that is first on PATH cannot build against
# a kernel that was built by another compiler.
DISTRIBUTION_PATH=/usr/sbin:/usr/bin:/sbin:/bin
RUSTC=/usr/bin/rustc
RUSTDOC=/usr/bin/rustdoc
RUSTFMT=/usr/bin/rustfmt
CARGO=/usr/bin/cargo
CLIPPY_DRIVER=/usr/bin/clippy-driver
LIBCLANG_PATH=/usr/lib/llvm-$LLVM_MAJOR/lib
BINDGEN=$CAIRNFS_CACHE/bindgen-$BINDGEN_VERSION/bin/bindgen
VIRTME_NG=$CAIRNFS_CACHE/virtme-ng-$VIRTME_NG_VERSION
VNG=$VIRTME_NG/bin/vng

# What a `make` above us or the caller's own kernel work hands down is no business of what is built here:
# every make is called with all that it needs.
unset MAKEFLAGS MFLAGS MAKELEVEL MAKEOVERRIDES
unset ARCH SUBARCH O KBUILD_OUTPUT CROSS_COMPILE LLVM KCONFIG_ALLCONFIG

# Messages ------------------------------------------------------------------------------------------------------------

die() {
	printf '%s: %s\n' "$(basename "$0")" "$*" >&2
	exit 1
}

# Whole seconds since the shell started, less an earlier reading of the same.
elapsed_s() {
	echo $((SECONDS - ${1:-0}))
}

# Cache entries -------------------------------------------------------------------------------------------------------

# A version as it may stand in a file name that make reads.
file_name_of() {
	printf '%s\n' "${1//[^A-Za-z0-9._+-]/-}"
}

is_complete() {
	[ -e "$1/.complete" ]
}

# The files reach the disk before the mark that vouches for them.
mark_complete() {
	sync -f "$1"
	: >"$1/.complete"
}

installed_version() {
	dpkg-query -W -f '${db:Status-Status} ${Version}\n' "$1" 2>/dev/null |
		sed -n 's/^installed //p' | head -n 1
}

kernel_package_version() {
	installed_version "linux-source-$KERNEL_SERIES"
}

kernel_source_dir() {
	printf '%s/src/linux-%s\n' "$CAIRNFS_CACHE" "$(file_name_of "$(kernel_package_version)")"
}

# The options of one flavour, without comments: a reworded comment builds no kernel. What the flavour says of an option stands
# for what all have in common.
kernel_fragment() {
	local own
	own=$(kernel_options "$1")
	kernel_options common | grep -vwFf <(grep -oE 'CONFIG_[A-Z0-9_]+' <<<"$own")
	printf '%s\n' "$own"
}

kernel_options() {
	grep -E '^CONFIG_[A-Z0-9_]+=|^# CONFIG_[A-Z0-9_]+ is not set$' "$REPOSITORY/kernel/$1.config"
}

kernel_compiler_version() {
	case $1 in
	debug) "clang-$LLVM_MAJOR" --version | head -n 1 ;;
	*) gcc --version | head -n 1 ;;
	esac
}

kernel_build_dir() {
	local flavour=$1 version key
	version=$(kernel_package_version)
	key=$({
		printf '%s\n' "$version" "bindgen $BINDGEN_VERSION"
		"$RUSTC" --version
		kernel_compiler_version "$flavour"
		kernel_fragment "$flavour"
	} | sha256sum | cut -c1-12)
	printf '%s/kernel-%s-%s-%s\n' "$CAIRNFS_CACHE" "${version%%-*}" "$flavour" "$key"
}

# Calling a kernel tree -----------------------------------------------------------------------------------------------

# Modules are built beside the sources, one folder for each kernel, never among them.
module_build_dir() {
	printf '%s/build/module-%s\n' "$REPOSITORY" "$1"
}

# What every `make` in a kernel tree gets: Kbuild assigns these itself and takes them from the command line only.
kernel_make_args() {
	printf '%s' "RUSTC=$RUSTC RUSTDOC=$RUSTDOC RUSTFMT=$RUSTFMT CLIPPY_DRIVER=$CLIPPY_DRIVER BINDGEN=$BINDGEN"
	if [ "$1" = debug ]; then
		printf '%s' " LLVM=-$LLVM_MAJOR"
	fi
}

# make in a kernel build tree: kernel_make <flavour> <directory> <argument>...
kernel_make() {
	local flavour=$1 directory=$2
	shift 2
	# shellcheck disable=SC2046 # one word for each argument is what is wanted
	PATH=$DISTRIBUTION_PATH LIBCLANG_PATH=$LIBCLANG_PATH \
		make --no-print-directory -C "$directory" -j "$(nproc)" $(kernel_make_args "$flavour") "$@"
}

# One for each checkout: cargo tells what is out of date by times of change, and names what it builds by the place within
# the workspace; two checkouts that share a folder get each other's programs.
cargo_target_dir() {
	local checkout
	checkout=$(printf '%s' "$REPOSITORY" | sha256sum | cut -c1-12)
	printf '%s' "$CAIRNFS_CACHE/target-$checkout"
}

# The environment that a finished set-up gives (`scripts/setup --print-env`), as lines that a shell can evaluate.
print_environment() {
	local flavour=$1 build_dir
	build_dir=$(kernel_build_dir "$flavour")
	printf 'export %s=%q\n' \
		CAIRNFS_CACHE "$CAIRNFS_CACHE" \
		KERNEL_FLAVOUR "$flavour" \
		KDIR "$build_dir" \
		KERNEL_IMAGE "$build_dir/arch/x86/boot/bzImage" \
		KERNEL_SOURCE "$(kernel_source_dir)" \
		KERNEL_MAKE_ARGS "$(kernel_make_args "$flavour")" \
		RUSTC "$RUSTC" \
		RUSTDOC "$RUSTDOC" \
		RUSTFMT "$RUSTFMT" \
		CARGO "$CARGO" \
		CLIPPY_DRIVER "$CLIPPY_DRIVER" \
		BINDGEN "$BINDGEN" \
		LIBCLANG_PATH "$LIBCLANG_PATH" \
		VNG "$VNG" \
		CAIRNFS_MODULE "$(module_build_dir "$flavour")/cairnfs.ko" \
		CARGO_TARGET_DIR "$(cargo_target_dir)" \
		PATH "$DISTRIBUTION_PATH:$VIRTME_NG/bin:$PATH"
}

# The same, into the running script.
load_environment() {
	local lines
	lines=$("$REPOSITORY/scripts/setup" --print-env --kernel="$1") || exit 1
	eval "$lines"
}

# cargo over the user-space workspace, with exactly the versions of its lock file.
cargo_tools() {
	local subcommand=$1
	shift
	"$CARGO" "$subcommand" --locked --manifest-path "$REPOSITORY/tools/Cargo.toml" "$@"
}

# Root's work: done as it is by root, with sudo by others.
as_root() {
	if [ "$(id -u)" -eq 0 ]; then
		"$@"
	else
		sudo -n "$@"
	fi
}

apt() {
	as_root env DEBIAN_FRONTEND=noninteractive apt-get -y -q -o DPkg::Lock::Timeout=600 "$@"
}
