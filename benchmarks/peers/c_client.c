/* A client in C on librabbitmq: the speed that the broker allows a client that does nothing else.
 *
 *   c_client publish SECONDS COUNT   publishes until one of them is reached (0: no limit), with confirms
 *   c_client eat                     consumes for ever, and acknowledges each message
 *
 * BENCH_URL in the environment is the broker's URL. The exit code is 1 if anything fails. `publish` prints what
 * benchmarks/publishing.py prints; `eat` counts in the file `tally` (benchmarks/tally.py).
 */
#include <fcntl.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#include <amqp.h>
#include <amqp_framing.h>
#include <amqp_tcp_socket.h>

#define QUEUE "peer"
/* The most unconfirmed messages: the default window of Baozi's publisher. */
#define WINDOW 1000
/* Messages that the broker sends before they are acknowledged. */
#define PREFETCH 1000
/* Seconds that the broker may take to answer. */
#define PATIENCE 60

static void fail(const char *what) {
  fprintf(stderr, "%s failed\n", what);
  exit(1);
}

static void check(amqp_rpc_reply_t reply, const char *what) {
  if (reply.reply_type != AMQP_RESPONSE_NORMAL) fail(what);
}

static double now(clockid_t clock) {
  struct timespec at;
  clock_gettime(clock, &at);
  return (double)at.tv_sec + (double)at.tv_nsec / 1e9;
}

static amqp_connection_state_t connected(void) {
  char *url = getenv("BENCH_URL");
  struct amqp_connection_info info;
  if (url == NULL || amqp_parse_url(url, &info) != AMQP_STATUS_OK) fail("BENCH_URL");
  amqp_connection_state_t connection = amqp_new_connection();
  amqp_socket_t *socket = amqp_tcp_socket_new(connection);
  struct timeval patience = {PATIENCE, 0};
  if (socket == NULL || amqp_socket_open_noblock(socket, info.host, info.port, &patience)) fail("the connection");
  check(amqp_login(connection, info.vhost, 0, AMQP_DEFAULT_FRAME_SIZE, 0, AMQP_SASL_METHOD_PLAIN, info.user,
                   info.password),
        "the login");
  amqp_channel_open(connection, 1);
  check(amqp_get_rpc_reply(connection), "the channel");
  amqp_table_entry_t type = {.key = amqp_cstring_bytes("x-queue-type"),
                             .value = {.kind = AMQP_FIELD_KIND_UTF8,
                                       .value.bytes = amqp_cstring_bytes("quorum")}};
  amqp_table_t arguments = {1, &type};
  amqp_queue_declare(connection, 1, amqp_cstring_bytes(QUEUE), 0, 1, 0, 0, arguments);
  check(amqp_get_rpc_reply(connection), "the queue");
  return connection;
}

/* Which of the last messages are confirmed, by number; all below `lowest` are. */
static bool confirmed[4 * WINDOW];
static uint64_t lowest = 1;

/* Wait for one frame with confirms, and note them. */
static void confirm(amqp_connection_state_t connection) {
  amqp_frame_t frame;
  struct timeval patience = {PATIENCE, 0};
  amqp_maybe_release_buffers(connection);
  if (amqp_simple_wait_frame_noblock(connection, &frame, &patience) != AMQP_STATUS_OK) fail("a confirm");
  if (frame.frame_type != AMQP_FRAME_METHOD) return;
  if (frame.payload.method.id != AMQP_BASIC_ACK_METHOD) fail("a message");
  amqp_basic_ack_t *ack = frame.payload.method.decoded;
  for (uint64_t number = ack->multiple ? lowest : ack->delivery_tag; number <= ack->delivery_tag; number++)
    confirmed[number % (4 * WINDOW)] = true;
  for (; confirmed[lowest % (4 * WINDOW)]; lowest++) confirmed[lowest % (4 * WINDOW)] = false;
}

static void publish(double seconds, uint64_t count) {
  amqp_connection_state_t connection = connected();
  amqp_confirm_select(connection, 1);
  check(amqp_get_rpc_reply(connection), "confirm.select");
  amqp_basic_properties_t properties = {._flags = AMQP_BASIC_DELIVERY_MODE_FLAG | AMQP_BASIC_CONTENT_TYPE_FLAG,
                                        .delivery_mode = AMQP_DELIVERY_PERSISTENT,
                                        .content_type = amqp_cstring_bytes("application/json")};
  uint64_t number = 0;
  double began = 0;
  do {
    char body[200];
    snprintf(body, sizeof body, "{\"run\": \"bench\", \"producer\": \"alex\", \"number\": %" PRIu64
             ", \"made_at\": %.6f}", number, now(CLOCK_REALTIME));
    if (amqp_basic_publish(connection, 1, amqp_empty_bytes, amqp_cstring_bytes(QUEUE), 1, 0, &properties,
                           amqp_cstring_bytes(body)))
      fail("a publish");
    number++;
    /* The first message is not counted, as in benchmarks/publishing.py. */
    while (number - (lowest - 1) >= (number == 1 ? 1 : WINDOW)) confirm(connection);
    if (number == 1) began = now(CLOCK_MONOTONIC);
  } while ((!count || number < count) &&
           (!seconds || number % 16 || now(CLOCK_MONOTONIC) - began < seconds));
  while (lowest <= number) confirm(connection);
  printf("{\"count\": %" PRIu64 ", \"seconds\": %f}\n", number - 1, now(CLOCK_MONOTONIC) - began);
}

/* The tally's slot of this process: the only one, so it is the first. */
static volatile uint64_t *slot(void) {
  int file = open("tally", O_RDWR);
  struct stat status;
  if (file < 0 || fstat(file, &status)) fail("the tally");
  char *tally = mmap(NULL, (size_t)status.st_size, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
  if (tally == MAP_FAILED) fail("the tally");
  memcpy(tally, "       1", 8);
  return (volatile uint64_t *)(tally + 8);
}

static void eat(void) {
  amqp_connection_state_t connection = connected();
  volatile uint64_t *eaten = slot();
  amqp_basic_qos(connection, 1, 0, PREFETCH, 0);
  check(amqp_get_rpc_reply(connection), "the prefetch count");
  amqp_basic_consume(connection, 1, amqp_cstring_bytes(QUEUE), amqp_empty_bytes, 0, 0, 0, amqp_empty_table);
  check(amqp_get_rpc_reply(connection), "the consumer");
  for (;;) {
    amqp_envelope_t envelope;
    amqp_maybe_release_buffers(connection);
    check(amqp_consume_message(connection, &envelope, NULL, 0), "a delivery");
    ++*eaten;
    if (amqp_basic_ack(connection, 1, envelope.delivery_tag, 0)) fail("an acknowledgement");
    amqp_destroy_envelope(&envelope);
  }
}

int main(int count, char **words) {
  if (count == 4 && !strcmp(words[1], "publish"))
    publish(atof(words[2]), strtoull(words[3], NULL, 10));
  else if (count == 2 && !strcmp(words[1], "eat"))
    eat();
  else
    fail("the command line");
  return 0;
}
