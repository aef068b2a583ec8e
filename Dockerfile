# The program as one static binary: docker build -t ghcr.io/llm-d/config-explorer:v0.1.0 .
#
# Nothing else is in the image: no shell, no package. It runs as nobody and writes to /tmp and to what is mounted.

# Alpine's target is musl, which links statically. Compilers of C are for zstd and the cryptography of TLS.
FROM rust:1.90.0-alpine3.22 AS build
RUN apk add --no-cache build-base
WORKDIR /source
COPY . .
RUN cargo build --locked --profile dist -p config-explorer-cli \
    && mkdir -p /image/tmp /image/etc/ssl/certs \
    && cp target/dist/config-explorer /image/ \
    && cp /etc/ssl/certs/ca-certificates.crt /image/etc/ssl/certs/

FROM scratch
COPY --from=build --chown=65532:65532 /image /
USER 65532:65532
# Of a hub's files only configurations and headers are kept.
ENV HOME=/tmp HF_HOME=/tmp/huggingface XDG_CACHE_HOME=/tmp/cache
ENTRYPOINT ["/config-explorer"]
