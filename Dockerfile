# syntax=docker/dockerfile:1
# The release image. The first build compiles about 700 crates, half an hour on two cores; later builds use the caches.
FROM rust:1.95-slim-bookworm AS build
# For the crates written in C: librdkafka (make, C++ for its second library), OpenSSL (perl), zstd, lz4, SQLite, AWS-LC.
RUN apt-get update \
    && apt-get install -y --no-install-recommends g++ make perl \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /build
COPY . .
# --ignore-rust-version: a crate of the embedded broker declares a newer compiler than it needs.
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/build/target \
    cargo build --profile dist --locked --ignore-rust-version --package forebay --bin forebay \
    && cp target/dist/forebay /usr/local/bin/forebay

FROM debian:bookworm-slim
RUN apt-get update \
    && apt-get install -y --no-install-recommends ca-certificates \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --system --uid 10001 --no-create-home --shell /usr/sbin/nologin forebay \
    && install -d -o forebay -g forebay /var/lib/forebay
COPY --from=build /usr/local/bin/forebay /usr/local/bin/forebay
USER forebay
WORKDIR /var/lib/forebay
VOLUME /var/lib/forebay
ENTRYPOINT ["forebay"]
CMD ["--help"]
