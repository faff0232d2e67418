# The organisation without its screen, for `docker compose --profile agents`. It needs PostgreSQL and Redis from outside.
FROM python:3.12-slim AS build
WORKDIR /src
COPY pyproject.toml README.md LICENSE ./
COPY echo_core echo_core
COPY echo_tui echo_tui
COPY sql sql
RUN pip wheel --no-cache-dir --no-deps --wheel-dir /wheel .

FROM python:3.12-slim
COPY constraints.txt /tmp/
COPY --from=build /wheel /tmp/wheel
RUN pip install --no-cache-dir --compile -c /tmp/constraints.txt /tmp/wheel/*.whl && rm -r /tmp/wheel /tmp/constraints.txt \
 && useradd --create-home --uid 10001 echo && install -d -o echo -g echo -m 0700 /data
USER echo
WORKDIR /home/echo
ENV ECHO_DATA_DIR=/data LANG=C.UTF-8
VOLUME /data
CMD ["python", "-m", "echo_core.supervisor"]
