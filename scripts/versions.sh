# The version of every tool that the scripts bring; nothing is pinned elsewhere. Go itself and the libraries stand in go.mod.
GOLANGCI_LINT_VERSION=v2.15.0
# Where there is neither redis-server nor a package manager that may install it, its binary is taken out of this image.
REDIS_IMAGE=${BACKPLANE_REDIS_IMAGE:-redis:7-bookworm}
