/*
 * danmpy-cni: hands one CNI call to the node daemon and prints the answer.
 *
 * The same program as danmpy/cni/shim.py, which is the reference and explains itself more: whatever
 * either is given, both print the same bytes. This one is linked statically, because the host that
 * it is put on may have neither Python nor this C library, and because a dynamic loader would cost
 * as much as the call. It makes one call and ends: nothing is freed. No time, no logs, no state.
 */
#define _DEFAULT_SOURCE

#include <errno.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#ifndef TIMEOUT_MS
#define TIMEOUT_MS 60000
#endif
#define DEFAULT_SOCKET "/run/danmpy/cni.sock"
#define NEWEST_VERSION "1.1.0"
#define MAX_BLOCK (16 * 1024 * 1024)
#define MAX_BLOCK_TEXT "16777216"
#define PIECE 65536
#define HEADER 5 /* of an answer: the exit status and the length of the block */

enum { CODE_IO = 5, CODE_DECODE = 6, CODE_CONFIG = 7, CODE_TRY_LATER = 11, CODE_UNAVAILABLE = 50 };

static const char *const SUPPORTED[] = {"0.3.0", "0.3.1", "0.4.0", "1.0.0", NEWEST_VERSION};
static const char *const FORWARDED[] = {"PATH=", "TRACEPARENT=", "TRACESTATE=", "BAGGAGE="};
#define COUNT(array) (sizeof(array) / sizeof(array)[0])

extern char **environ;

/* Bytes that somebody else keeps. */
struct slice {
    const char *at;
    size_t size;
};

/* Bytes that grow. */
struct buffer {
    char *at;
    size_t size, room;
};

/* Output */

static bool write_all(int descriptor, const char *at, size_t size)
{
    while (size > 0) {
        ssize_t taken = write(descriptor, at, size);
        if (taken < 0 && errno == EINTR)
            continue;
        if (taken < 0)
            return false;
        at += taken;
        size -= (size_t)taken;
    }
    return true;
}

static _Noreturn void finish(int status, int descriptor, struct slice text)
{
    if (!write_all(descriptor, text.at, text.size) && status == 0)
        status = 1;
    _exit(status);
}

static _Noreturn void out_of_memory(void)
{
    static const char text[] = "{\"cniVersion\": \"" NEWEST_VERSION "\", \"code\": 999, "
                               "\"msg\": \"danmpy-cni: internal error: MemoryError()\"}\n";
    finish(1, STDOUT_FILENO, (struct slice){text, sizeof text - 1});
}

/* Makes room for `more` bytes behind the end. */
static char *reserve(struct buffer *buffer, size_t more)
{
    if (buffer->room - buffer->size < more) {
        size_t room = buffer->size + more + buffer->size / 2;
        char *at = realloc(buffer->at, room);
        if (at == NULL)
            out_of_memory();
        buffer->at = at;
        buffer->room = room;
    }
    return buffer->at + buffer->size;
}

static void put(struct buffer *buffer, const char *at, size_t size)
{
    if (size > 0)
        memcpy(reserve(buffer, size), at, size);
    buffer->size += size;
}

static void say(struct buffer *buffer, const char *text)
{
    put(buffer, text, strlen(text));
}

static void say_number(struct buffer *buffer, unsigned number)
{
    if (number >= 10)
        say_number(buffer, number / 10);
    put(buffer, &"0123456789"[number % 10], 1);
}

static struct slice whole(const struct buffer *buffer)
{
    return (struct slice){buffer->at, buffer->size};
}

/* JSON and UTF-8 */

static bool is_blank(char byte)
{
    return byte == ' ' || byte == '\t' || byte == '\n' || byte == '\r';
}

/* The number of bytes of the well-formed sequence (RFC 3629) at the start of `text`, which is not
 * empty, and its code point; 0 when there is none. */
static size_t code_point_at(struct slice text, uint32_t *point)
{
    static const uint32_t lowest[] = {0, 0, 0x80, 0x800, 0x10000};
    unsigned char first = (unsigned char)text.at[0];
    size_t length = first < 0x80 ? 1 : first < 0xC2 ? 0 : first < 0xE0 ? 2 : first < 0xF0 ? 3 : 4;
    if (length == 0 || length > text.size || first > 0xF4)
        return 0;
    *point = length == 1 ? first : first & (0x7Fu >> length);
    for (size_t index = 1; index < length; index++) {
        unsigned char byte = (unsigned char)text.at[index];
        if ((byte & 0xC0) != 0x80)
            return 0;
        *point = *point << 6 | (byte & 0x3F);
    }
    bool surrogate = *point >= 0xD800 && *point < 0xE000;
    return *point < lowest[length] || *point > 0x10FFFF || surrogate ? 0 : length;
}

static void say_code_point(struct buffer *buffer, uint32_t point)
{
    char bytes[4];
    size_t length = point < 0x80 ? 1 : point < 0x800 ? 2 : point < 0x10000 ? 3 : 4;
    for (size_t index = length - 1; index > 0; index--, point >>= 6)
        bytes[index] = (char)(0x80 | (point & 0x3F));
    static const unsigned char mark[] = {0, 0, 0xC0, 0xE0, 0xF0};
    bytes[0] = (char)(mark[length] | point);
    put(buffer, bytes, length);
}

static void say_escape(struct buffer *buffer, uint32_t unit)
{
    char text[6] = {'\\', 'u'};
    for (int index = 0; index < 4; index++)
        text[2 + index] = "0123456789abcdef"[unit >> (12 - 4 * index) & 15];
    put(buffer, text, sizeof text);
}

/* `text` between quotes, in ASCII. A byte that is no UTF-8 becomes the lone surrogate that Python
 * uses for it (PEP 383). */
static void say_json(struct buffer *buffer, struct slice text)
{
    static const char special[] = "\"\\\n\r\t\f\b", letter[] = "\"\\nrtfb";
    say(buffer, "\"");
    while (text.size > 0) {
        uint32_t point = 0;
        size_t length = code_point_at(text, &point);
        const char *found = length == 1 && point != 0 ? strchr(special, (int)point) : NULL;
        if (length == 0) {
            say_escape(buffer, 0xDC00u | (unsigned char)text.at[0]);
            length = 1;
        } else if (found != NULL) {
            put(buffer, "\\", 1);
            put(buffer, letter + (found - special), 1);
        } else if (point >= ' ' && point <= '~') {
            put(buffer, text.at, 1);
        } else if (point < 0x10000) {
            say_escape(buffer, point);
        } else {
            say_escape(buffer, 0xD800u | (point - 0x10000) >> 10);
            say_escape(buffer, 0xDC00u | (point & 0x3FF));
        }
        text.at += length;
        text.size -= length;
    }
    say(buffer, "\"");
}

/* The number that four hexadecimal digits at `at` make, which end before `end`; else -1. */
static int32_t four_digits(const char *at, const char *end)
{
    int32_t number = 0;
    if (end - at < 4)
        return -1;
    for (int index = 0; index < 4; index++) {
        char digit = at[index];
        int value = digit >= '0' && digit <= '9'   ? digit - '0'
                    : digit >= 'a' && digit <= 'f' ? digit - 'a' + 10
                    : digit >= 'A' && digit <= 'F' ? digit - 'A' + 10
                                                   : -1;
        if (value < 0)
            return -1;
        number = number << 4 | value;
    }
    return number;
}

/* The code point of the \u escape whose digits begin at `*at`, which is moved behind it; a pair of
 * surrogates is one. -1 when it is none. */
static int32_t escaped_code_point(const char **at, const char *end)
{
    int32_t unit = four_digits(*at, end);
    if (unit < 0)
        return -1;
    *at += 4;
    if (unit >= 0xD800 && unit < 0xDC00 && end - *at >= 6 && (*at)[0] == '\\' && (*at)[1] == 'u') {
        int32_t low = four_digits(*at + 2, end);
        if (low >= 0xDC00 && low < 0xE000) {
            *at += 6;
            return 0x10000 + ((unit & 0x3FF) << 10 | (low & 0x3FF));
        }
    }
    return unit;
}

/* What `string`, which stood between quotes, means; empty when an escape in it is none. */
static struct slice unescaped(struct slice string)
{
    static const char letter[] = "\"\\/bfnrt", meant[] = "\"\\/\b\f\n\r\t";
    static const struct slice nothing = {"", 0};
    if (string.size == 0 || memchr(string.at, '\\', string.size) == NULL)
        return string;
    struct buffer result = {0};
    const char *at = string.at, *end = at + string.size;
    while (at < end) {
        if (*at != '\\') {
            put(&result, at++, 1);
            continue;
        }
        if (++at == end)
            return nothing;
        char kind = *at++;
        if (kind == 'u') {
            int32_t point = escaped_code_point(&at, end);
            if (point >= 0xDC80 && point <= 0xDCFF) { /* a byte that is no UTF-8, by PEP 383 */
                put(&result, &(char){(char)(point & 0xFF)}, 1);
                continue;
            }
            if (point < 0 || (point >= 0xD800 && point < 0xE000))
                return nothing;
            say_code_point(&result, (uint32_t)point);
        } else {
            const char *found = kind != 0 ? strchr(letter, kind) : NULL;
            if (found == NULL)
                return nothing;
            put(&result, meant + (found - letter), 1);
        }
    }
    return whole(&result);
}

/* The string whose opening quote is at `*position`, which is moved behind the closing one; false
 * when it has no end. */
static bool take_string(struct slice data, size_t *position, struct slice *string)
{
    size_t begin = *position + 1, at = begin;
    while (at < data.size && data.at[at] != '"')
        at += data.at[at] == '\\' ? 2 : 1;
    if (at >= data.size)
        return false;
    *string = (struct slice){data.at + begin, at - begin};
    *position = at + 1;
    return true;
}

static size_t skip_blank(struct slice data, size_t position)
{
    while (position < data.size && is_blank(data.at[position]))
        position++;
    return position;
}

/* The text under `key` of the JSON object `data`: false when there is no such key, empty when no
 * text is under it. Of a key that is there twice the last one counts, as JSON parsers have it.
 * What is no JSON the daemon will complain about. */
static bool top_level(struct slice data, const char *key, struct slice *text)
{
    bool found = false;
    long depth = 0;
    size_t position = 0;
    while (position < data.size) {
        char byte = data.at[position];
        if (byte != '"') {
            depth += byte == '{' || byte == '[' ? 1 : byte == '}' || byte == ']' ? -1 : 0;
            position++;
            continue;
        }
        struct slice name, value;
        if (!take_string(data, &position, &name))
            break;
        size_t next = skip_blank(data, position);
        if (depth != 1 || next == data.size || data.at[next] != ':')
            continue;
        name = unescaped(name);
        if (name.size != strlen(key) || memcmp(name.at, key, name.size) != 0)
            continue;
        next = skip_blank(data, next + 1);
        bool quoted = next < data.size && data.at[next] == '"' && take_string(data, &next, &value);
        found = true;
        *text = quoted ? unescaped(value) : (struct slice){"", 0};
    }
    return found;
}

static bool looks_like_an_object(struct slice data)
{
    size_t begin = skip_blank(data, 0), end = data.size;
    while (end > begin && is_blank(data.at[end - 1]))
        end--;
    return begin < end && data.at[begin] == '{' && data.at[end - 1] == '}';
}

/* The cniVersion to answer in: the config's when it looks like one, else the newest. */
static struct slice requested_version(struct slice data)
{
    struct slice version = {0};
    bool plain = top_level(data, "cniVersion", &version) && version.size > 0;
    for (size_t index = 0; plain && index < version.size; index++)
        plain = version.at[index] == '.' || (version.at[index] >= '0' && version.at[index] <= '9');
    return plain ? version : (struct slice){NEWEST_VERSION, strlen(NEWEST_VERSION)};
}

/* The error object of the CNI specification, on stdout, where runtimes read it. */
static _Noreturn void fail(struct slice data, unsigned code, const struct buffer *message)
{
    struct buffer out = {0}, text = {0};
    say(&text, "danmpy-cni: ");
    put(&text, message->at, message->size);
    say(&out, "{\"cniVersion\": ");
    say_json(&out, requested_version(data));
    say(&out, ", \"code\": ");
    say_number(&out, code);
    say(&out, ", \"msg\": ");
    say_json(&out, whole(&text));
    say(&out, "}\n");
    finish(1, STDOUT_FILENO, whole(&out));
}

/* The kernel's words, as Python prints them. */
static void say_reason(struct buffer *message, int error)
{
    say(message, "[Errno ");
    say_number(message, (unsigned)error);
    say(message, "] ");
    say(message, strerror(error));
}

/* Environment and stdin */

static const char *variable(const char *name)
{
    size_t size = strlen(name);
    for (char **entry = environ; *entry != NULL; entry++)
        if (strncmp(*entry, name, size) == 0 && (*entry)[size] == '=')
            return *entry + size + 1;
    return "";
}

/* Does `entry` travel? Of a variable that is there twice the first one counts, as for getenv. */
static bool is_forwarded(char **entry)
{
    const char *equals = strchr(*entry, '=');
    if (equals == NULL)
        return false;
    size_t size = (size_t)(equals - *entry) + 1;
    bool named = strncmp(*entry, "CNI_", 4) == 0;
    for (size_t index = 0; !named && index < COUNT(FORWARDED); index++)
        named = strncmp(*entry, FORWARDED[index], size) == 0 && FORWARDED[index][size] == 0;
    for (char **earlier = environ; named && earlier < entry; earlier++)
        named = strncmp(*earlier, *entry, size) != 0;
    return named;
}

/* Four bytes, big endian. */
static void store_size(char *at, size_t size)
{
    for (int index = 0; index < 4; index++)
        at[index] = (char)(size >> (24 - 8 * index) & 0xFF);
}

static void put_environment(struct buffer *request)
{
    size_t begin = request->size;
    put(request, "\0\0\0\0", 4);
    for (char **entry = environ; *entry != NULL; entry++) {
        if (!is_forwarded(entry))
            continue;
        if (request->size > begin + 4)
            put(request, "", 1);
        say(request, *entry);
    }
    store_size(request->at + begin, request->size - begin - 4);
}

/* Everything until the end of the file, behind what is in `request`; the CNI code of what is wrong,
 * which is in `message`, or 0. */
static unsigned put_stdin(struct buffer *request, struct buffer *message)
{
    size_t begin = request->size;
    for (;;) {
        ssize_t got = read(STDIN_FILENO, reserve(request, PIECE), PIECE);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0) {
            int error = errno;
            say(message, "stdin cannot be read: ");
            say_reason(message, error);
            return CODE_IO;
        }
        if (got == 0)
            return 0;
        request->size += (size_t)got;
        if (request->size - begin > MAX_BLOCK) {
            say(message, "stdin has more than the " MAX_BLOCK_TEXT " bytes allowed");
            return CODE_DECODE;
        }
    }
}

/* The connection */

/* A connection whose every step fails after TIMEOUT_MS, which the kernel watches (socket(7),
 * SO_SNDTIMEO); -1 with errno. `path` fits. */
static int connect_to(struct slice path)
{
    struct timeval limit = {.tv_sec = TIMEOUT_MS / 1000, .tv_usec = TIMEOUT_MS % 1000 * 1000};
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    memcpy(address.sun_path, path.at, path.size);
    socklen_t size = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + path.size + 1);
    int connection = socket(AF_UNIX, SOCK_STREAM, 0);
    if (connection < 0 ||
        setsockopt(connection, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit) != 0 ||
        setsockopt(connection, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit) != 0)
        return -1;
    while (connect(connection, (const struct sockaddr *)&address, size) != 0)
        if (errno != EINTR)
            return -1;
    return connection;
}

/* As `say_reason`, of a socket: there the kernel says EAGAIN when the time is over. */
static void say_socket_reason(struct buffer *message, int error)
{
    if (error == EAGAIN)
        say(message, "timed out");
    else
        say_reason(message, error);
}

static bool send_all(int connection, struct slice data)
{
    while (data.size > 0) {
        ssize_t taken = send(connection, data.at, data.size, MSG_NOSIGNAL);
        if (taken < 0 && errno == EINTR)
            continue;
        if (taken < 0)
            return false;
        data.at += taken;
        data.size -= (size_t)taken;
    }
    return true;
}

/* How many bytes the block of `answer` has, by what it says. */
static size_t announced(const struct buffer *answer)
{
    size_t size = 0;
    for (int index = 1; index < HEADER; index++)
        size = size << 8 | (unsigned char)answer->at[index];
    return size;
}

static bool wants_more(const struct buffer *answer)
{
    return answer->size < HEADER ||
           (announced(answer) <= MAX_BLOCK && answer->size - HEADER < announced(answer));
}

/* Reads until the answer is whole or ends; false with errno. */
static bool receive(int connection, struct buffer *answer)
{
    while (wants_more(answer)) {
        ssize_t got = recv(connection, reserve(answer, PIECE), PIECE, 0);
        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0)
            return got == 0;
        answer->size += (size_t)got;
    }
    return true;
}

/* Asks the daemon behind the unix socket `path`: 0 and `answer`, or the CNI code and `message`. */
static unsigned call(struct slice path, struct slice request, struct slice data,
                     struct buffer *answer, struct buffer *message)
{
    int connection = -1;
    bool fits = path.size < sizeof ((struct sockaddr_un *)0)->sun_path;
    if (!fits || (connection = connect_to(path)) < 0) {
        int error = errno;
        if (!looks_like_an_object(data)) {
            say(message, "stdin is no JSON object: the runtime must send its config");
            return CODE_DECODE;
        }
        say(message, "nobody listens on ");
        put(message, path.at, path.size);
        say(message, ": ");
        if (fits)
            say_socket_reason(message, error);
        else
            say(message, "AF_UNIX path too long");
        say(message, " (is the danmpy node daemon running on this node, and is its socket there?)");
        return CODE_TRY_LATER;
    }
    bool heard = send_all(connection, request) && receive(connection, answer);
    int error = errno;
    close(connection); /* it may have the number of a closed stdout */
    if (heard && answer->size >= HEADER && answer->size - HEADER == announced(answer))
        return 0;
    say(message, "the danmpy node daemon behind ");
    put(message, path.at, path.size);
    if (heard) {
        say(message, " broke off its answer (was it restarted? the call may be repeated)");
    } else {
        say(message, " did not answer: ");
        say_socket_reason(message, error);
        say(message, " (see its log; the call may be repeated)");
    }
    return CODE_TRY_LATER;
}

/* The config's "socket", else DANMPY_SOCKET, else the default. */
static bool socket_path(struct slice data, struct slice *path)
{
    if (top_level(data, "socket", path))
        return path->size > 0 && memchr(path->at, 0, path->size) == NULL;
    const char *given = variable("DANMPY_SOCKET");
    path->at = *given != 0 ? given : DEFAULT_SOCKET;
    path->size = strlen(path->at);
    return true;
}

static void say_supported(struct buffer *out, const char *between)
{
    for (size_t index = 0; index < COUNT(SUPPORTED); index++) {
        say(out, index > 0 ? between : "");
        say(out, SUPPORTED[index]);
    }
}

static _Noreturn void print_about(void)
{
    struct buffer out = {0};
    say(&out, "danmpy-cni: CNI entrypoint of danmpy, a tenant network manager\n"
              "It is started by a container runtime. CNI protocol versions supported: ");
    say_supported(&out, ", ");
    say(&out, "\n");
    finish(0, STDERR_FILENO, whole(&out));
}

static _Noreturn void print_versions(struct slice data)
{
    struct slice version = requested_version(data);
    struct buffer out = {0};
    say(&out, "{\"cniVersion\":\"");
    put(&out, version.at, version.size);
    say(&out, "\",\"supportedVersions\":[\"");
    say_supported(&out, "\",\"");
    say(&out, "\"]}\n");
    finish(0, STDOUT_FILENO, whole(&out));
}

int main(void)
{
    signal(SIGPIPE, SIG_IGN);
    const char *command = variable("CNI_COMMAND");
    if (*command == 0)
        print_about();
    struct buffer request = {0}, answer = {0}, message = {0};
    say(&request, "DANMPY1\n");
    put_environment(&request);
    put(&request, "\0\0\0\0", 4);
    size_t begin = request.size;
    unsigned code = put_stdin(&request, &message);
    store_size(request.at + begin - 4, request.size - begin);
    put(&request, "\0\0\0\0", 4); /* the block that is reserved */
    struct slice data = {request.at + begin, code == 0 ? request.size - begin - 4 : 0}, path;
    if (strcmp(command, "VERSION") == 0)
        print_versions(data);
    if (code != 0)
        fail(data, code, &message);
    if (!socket_path(data, &path)) {
        say(&message, "'socket' of the config is no path");
        fail(data, CODE_CONFIG, &message);
    }
    code = call(path, whole(&request), data, &answer, &message);
    if (code == CODE_TRY_LATER && strcmp(command, "STATUS") == 0)
        code = CODE_UNAVAILABLE;
    if (code != 0)
        fail(data, code, &message);
    finish((unsigned char)answer.at[0], STDOUT_FILENO,
           (struct slice){answer.at + HEADER, answer.size - HEADER});
}
