# The gateway as an image. It needs nothing but this repository:
#
#   docker build --tag wsmux .
#   docker run --init --publish 8080:8080 wsmux                      the demo
#   docker run --publish 8080:8080 --volume ./serve.toml:/etc/wsmux/serve.toml:ro --stop-timeout 30 \
#       wsmux serve --config /etc/wsmux/serve.toml --listen 0.0.0.0:8080
#
# `scripts/deploy` runs what stands here, and builds the image where there is an engine for it.

FROM rust:1-slim-bookworm AS build
WORKDIR /src
COPY . .
RUN cargo build --locked --release --no-default-features --features cli --bin wsmux

FROM debian:bookworm-slim
# Roots for upstreams that the compiled-in ones do not cover, and curl for the health check.
RUN apt-get update \
    && apt-get install --yes --no-install-recommends ca-certificates curl \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --system --uid 10001 --home-dir /var/lib/wsmux --create-home wsmux
COPY --from=build /src/target/release/wsmux /usr/local/bin/wsmux
USER 10001
WORKDIR /var/lib/wsmux
EXPOSE 8080
# It drains on this: clients are closed over `drain`, 5 s by default.
STOPSIGNAL SIGTERM
# Whether it is alive: whether it is ready is for who sends clients here (`/readyz`).
HEALTHCHECK --interval=10s --timeout=5s --start-period=10s \
    CMD ["curl", "--fail", "--silent", "--show-error", "http://127.0.0.1:8080/livez"]
ENTRYPOINT ["wsmux"]
CMD ["serve", "--demo", "--listen", "0.0.0.0:8080"]
