# One image with operator and relay: two static programs, no shell, nobody's root.
#
# Where the compile image can be pulled:      docker build -t postroad .
# Where it cannot, with programs built before: buildah bud --build-arg BINARIES=prebuilt -t postroad .
# (`make image` does the second.)
ARG BINARIES=compile

# Always on the builder's own platform: arm64 is cross-compiled, nothing is emulated.
FROM --platform=$BUILDPLATFORM docker.io/library/rust:1.95-bookworm AS compile
# Filled in by the builder. No default here: one would win over --platform.
ARG TARGETARCH
RUN apt-get update && apt-get install -y --no-install-recommends musl-tools gcc-aarch64-linux-gnu libc6-dev-arm64-cross
WORKDIR /source
COPY . .
RUN deploy/image/compile "$TARGETARCH" /out

FROM scratch AS prebuilt
ARG TARGETARCH
COPY target/image/${TARGETARCH}/ /out/

FROM ${BINARIES} AS binaries

FROM scratch
COPY --from=binaries /out/postroad-operator /out/postroad-relay /
# Buffers that large messages have outgrown go back to the system at once: the sum in src/config/src/memory.rs counts on it.
ENV MIMALLOC_PURGE_DELAY=0
LABEL org.opencontainers.image.title="Postroad" \
      org.opencontainers.image.description="SMTP relays on Kubernetes: operator and relay" \
      org.opencontainers.image.licenses="Apache-2.0"
USER 65532:65532
CMD ["/postroad-relay", "--help"]
