# shellcheck shell=bash
# The part rabbitmq: a private node with the management plugin, and the epmd it needs. Nothing of the
# system's own RabbitMQ (settings in /etc, data in /var, the epmd on port 4369) is read or touched.

rabbitmq_prepare() {
  local home=$DIR/rabbitmq
  [[ -e $home/password ]] && return
  mkdir -p "$home"
  random_hex 16 >"$home/password.new"
  mv "$home/password.new" "$home/password"
}

# The user of the settings is made at the first start in place of "guest".
write_rabbitmq_settings() {
  local home=$DIR/rabbitmq
  echo '[rabbitmq_management].' >"$home/enabled_plugins"
  echo "machine 127.0.0.1 login sync password $(cat "$home/password")" >"$home/netrc"
  cat >"$home/rabbitmq.conf" <<CONF
listeners.tcp.1 = $(bind_address):$(port rabbitmq)
management.tcp.ip = $(bind_address)
management.tcp.port = $(port rabbitmq-management)
default_user = sync
default_pass = $(cat "$home/password")
default_user_tags.administrator = true
vm_memory_high_watermark.absolute = 1GB
disk_free_limit.absolute = 50MB
CONF
}

# What the programs of RabbitMQ and Erlang read, for the node and for rabbitmqctl alike.
rabbitmq_env() {
  local home=$DIR/rabbitmq
  printf '%s\n' \
    "HOME=$home" \
    "ERL_EPMD_PORT=$(port rabbitmq-epmd)" \
    "ERL_EPMD_ADDRESS=127.0.0.1" \
    "ERL_CRASH_DUMP=$home/erl_crash.dump" \
    "ERL_CRASH_DUMP_SECONDS=0" \
    "RABBITMQ_NODENAME=$(stack_id)@localhost" \
    "RABBITMQ_DIST_PORT=$(port rabbitmq-dist)" \
    "RABBITMQ_MNESIA_BASE=$home/mnesia" \
    "RABBITMQ_LOG_BASE=$home/log" \
    "RABBITMQ_LOGS=-" \
    "RABBITMQ_CONFIG_FILE=$home/rabbitmq.conf" \
    "RABBITMQ_CONFIG_FILES=$home/conf.d" \
    "RABBITMQ_ADVANCED_CONFIG_FILE=$home/advanced.config" \
    "RABBITMQ_CONF_ENV_FILE=$home/rabbitmq-env.conf" \
    "RABBITMQ_SCHEMA_DIR=$home/schema" \
    "RABBITMQ_GENERATED_CONFIG_DIR=$home/config" \
    "RABBITMQ_ENABLED_PLUGINS_FILE=$home/enabled_plugins" \
    "RABBITMQ_SCHEDULER_BIND_TYPE=u" \
    "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS=-kernel inet_dist_use_interface {127,0,0,1}" \
    "RUNNING_UNDER_SYSTEMD=true"
}

# RUNNING_UNDER_SYSTEMD (above) makes the start script become the Erlang process, instead of a shell that
# watches over it: so the pid in the pid file is the broker. epmd gets started by us first, else Erlang
# would start one as a daemon that outlives everything.
rabbitmq_launch() {
  local settings
  write_rabbitmq_settings
  mapfile -t settings < <(rabbitmq_env)
  launch rabbitmq env "${settings[@]}" epmd -address 127.0.0.1 -port "$(port rabbitmq-epmd)"
  wait_until 10 answers "$(port rabbitmq-epmd)" || true
  launch rabbitmq env "${settings[@]}" "$(rabbitmq_bin)"
}

rabbitmq_ready() {
  local api
  api=http://127.0.0.1:$(port rabbitmq-management)/api/health/checks
  answers "$(port rabbitmq)" &&
    curl_local --fail -o /dev/null --netrc-file "$DIR/rabbitmq/netrc" "$api/port-listener/$(port rabbitmq)" &&
    curl_local --fail -o /dev/null --netrc-file "$DIR/rabbitmq/netrc" "$api/virtual-hosts"
}
