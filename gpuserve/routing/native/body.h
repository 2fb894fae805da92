/* Reads the body of a plain chat request without making a document of it: body.py, turns.py.
 *
 * It takes what most requests are and nothing else: an object whose keys are few and known, each
 * once, with messages that are a role and a text. Whatever is rare, doubtful or wrong is left to
 * Python, which parses it and says what is wrong with it.
 */
#pragma once
#include <Python.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#define MOST_TURNS 40  /* turns.py, _TURNS */
#define MOST_EARLIER 4 /* _EARLIER_TURNS */
#define EARLIER_CHARS 300
#define REPLY_CHARS 150
#define SCENE_TURNS 2
#define MOST_DIGITS 15       /* of a number that is read; longer ones are Python's */
#define MOST_NAME_CHARS 1024 /* of a model: a text whose middle was left out is longer */
/* What is kept of a text beyond LONG_BYTES: at least wrappers.py's _LONGEST_CHARS of four bytes. */
#define LONG_BYTES (32 << 10)
#define HEAD_BYTES (16 << 10)
#define TAIL_BYTES (4 << 10)

typedef struct {
    const char *at, *end;
    char *room; /* for texts with escapes: as long as the body, made when it is needed */
    size_t size;
    bool failed; /* an error is set; otherwise what is refused is Python's */
} Body;

static void skip_space(Body *body)
{
    while (body->at < body->end &&
           (*body->at == ' ' || *body->at == '\n' || *body->at == '\t' || *body->at == '\r'))
        body->at++;
}

/* Take *sign*, with space around it. */
static bool take_sign(Body *body, char sign)
{
    skip_space(body);
    if (body->at == body->end || *body->at != sign)
        return false;
    body->at++;
    skip_space(body);
    return true;
}

/* Take *word*, such as `true`. */
static bool take_word(Body *body, const char *word)
{
    size_t size = strlen(word);
    if ((size_t)(body->end - body->at) < size || memcmp(body->at, word, size))
        return false;
    body->at += size;
    return true;
}

static int digit_of(char c)
{
    return c >= '0' && c <= '9' ? c - '0' : -1;
}

/* Take a whole number of no more than MOST_DIGITS; *value* is -1 for one with a fraction. */
static bool take_number(Body *body, int64_t *value)
{
    bool negative = body->at < body->end && *body->at == '-';
    body->at += negative;
    int64_t whole = 0;
    int digits = 0;
    for (; body->at < body->end && digit_of(*body->at) >= 0; body->at++, digits++) {
        if (digits == MOST_DIGITS || (digits == 1 && !whole))
            return false; /* 007 is no number */
        whole = 10 * whole + digit_of(*body->at);
    }
    if (!digits)
        return false;
    *value = negative ? -whole : whole;
    if (body->at == body->end || *body->at != '.')
        return body->at == body->end || (*body->at != 'e' && *body->at != 'E');
    *value = -1;
    body->at++;
    for (digits = 0; body->at < body->end && digit_of(*body->at) >= 0; body->at++)
        digits++;
    return digits && (body->at == body->end || (*body->at != 'e' && *body->at != 'E'));
}

/* Return the value of four hexadecimal digits at *at*, -1 where they are none. */
static int hex_of(const char *at, const char *end)
{
    int value = 0;
    if (end - at < 4)
        return -1;
    for (int i = 0; i < 4; i++) {
        char c = at[i], lower = (char)(c | 32);
        int digit = digit_of(c) >= 0               ? digit_of(c)
                    : lower >= 'a' && lower <= 'f' ? lower - 'a' + 10
                                                   : -1;
        if (digit < 0)
            return -1;
        value = 16 * value + digit;
    }
    return value;
}

static char *put_point(char *out, uint32_t c)
{
    if (c < 0x80) {
        *out++ = (char)c;
        return out;
    }
    if (c < 0x800) {
        *out++ = (char)(0xc0 | c >> 6);
    } else {
        if (c < 0x10000) {
            *out++ = (char)(0xe0 | c >> 12);
        } else {
            *out++ = (char)(0xf0 | c >> 18);
            *out++ = (char)(0x80 | (c >> 12 & 63));
        }
        *out++ = (char)(0x80 | (c >> 6 & 63));
    }
    *out++ = (char)(0x80 | (c & 63));
    return out;
}

/* Take what follows a backslash, and put what it stands for at *out*; NULL for what is no escape,
 * and for half a pair of surrogates, which is no text. */
static char *take_escape(Body *body, char *out)
{
    static const char SIGNS[] = "\"\\/bfnrt", MEANT[] = "\"\\/\b\f\n\r\t";
    if (body->at == body->end)
        return NULL;
    char c = *body->at++;
    if (c != 'u') {
        const char *sign = c ? strchr(SIGNS, c) : NULL;
        if (!sign)
            return NULL;
        *out = MEANT[sign - SIGNS];
        return out + 1;
    }
    int first = hex_of(body->at, body->end);
    if (first < 0 || (first >= 0xdc00 && first <= 0xdfff))
        return NULL;
    body->at += 4;
    if (first < 0xd800 || first > 0xdfff)
        return put_point(out, (uint32_t)first);
    if (body->end - body->at < 6 || body->at[0] != '\\' || body->at[1] != 'u')
        return NULL;
    int second = hex_of(body->at + 2, body->end);
    if (second < 0xdc00 || second > 0xdfff)
        return NULL;
    body->at += 6;
    return put_point(out,
                     0x10000 + ((uint32_t)(first - 0xd800) << 10) + (uint32_t)(second - 0xdc00));
}

/* Return where the first quote, backslash or control character is, *end* where there is none. */
static const char *special_in(const char *at, const char *end)
{
    const uint64_t ONES = 0x0101010101010101u, HIGH = 0x80 * ONES;
    for (uint64_t eight; end - at >= 8; at += 8) {
        memcpy(&eight, at, 8);
        /* A byte is zero, or below 32, where taking one, or 32, from it needs to borrow. What is
         * borrowed from a byte above says too much at times, and what is below finds that out. */
        uint64_t quote = eight ^ '"' * ONES, backslash = eight ^ '\\' * ONES;
        uint64_t borrowed = ((quote - ONES) & ~quote) | ((backslash - ONES) & ~backslash) |
                            ((eight - 32 * ONES) & ~eight);
        if (borrowed & HIGH)
            break;
    }
    while (at < end && *at != '"' && *at != '\\' && (unsigned char)*at >= 32)
        at++;
    return at;
}

/* Take a string; its bytes are at *text*, in the body, or in `room` until the next one. */
static bool take_string(Body *body, const char **text, Py_ssize_t *size)
{
    if (body->at == body->end || *body->at != '"')
        return false;
    const char *start = body->at + 1, *stop = special_in(start, body->end);
    char *out = NULL;
    while (stop < body->end && *stop == '\\') {
        if (!body->room && !(body->room = PyMem_Malloc(body->size))) {
            PyErr_NoMemory();
            body->failed = true;
            return false;
        }
        out = out ? out : body->room;
        memcpy(out, start, (size_t)(stop - start));
        body->at = stop + 1;
        if (!(out = take_escape(body, out + (stop - start))))
            return false;
        start = body->at;
        stop = special_in(start, body->end);
    }
    if (stop == body->end || *stop != '"')
        return false;
    body->at = stop + 1;
    *text = start;
    *size = stop - start;
    if (out) {
        memcpy(out, start, (size_t)*size);
        *text = body->room;
        *size += out - body->room;
    }
    return true;
}

/* Whether the bytes are UTF-8 as CPython reads it: RFC 3629, section 4. */
static bool is_utf8(const char *text, Py_ssize_t size)
{
    const unsigned char *at = (const unsigned char *)text, *end = at + size;
    while (at < end) {
        uint64_t eight = 0;
        if (end - at >= 8 && (memcpy(&eight, at, 8), !(eight & 0x8080808080808080u))) {
            at += 8;
            continue;
        }
        unsigned char c = *at++;
        if (c < 0x80)
            continue;
        int more = c >= 0xf0 ? 3 : c >= 0xe0 ? 2 : 1;
        if (c < 0xc2 || c > 0xf4 || end - at < more)
            return false;
        /* Longer than needed, half a pair of surrogates, or beyond Unicode. */
        if ((c == 0xe0 && at[0] < 0xa0) || (c == 0xed && at[0] > 0x9f) ||
            (c == 0xf0 && at[0] < 0x90) || (c == 0xf4 && at[0] > 0x8f))
            return false;
        for (; more; more--)
            if ((*at++ & 0xc0) != 0x80)
                return false;
    }
    return true;
}

/* Take a string; NULL for what is none. Of a long one the middle is left out, which no window
 * shows: what is left is longer than anything that is unwrapped, also in characters. */
static PyObject *take_text(Body *body)
{
    const char *text;
    Py_ssize_t size;
    char ends[HEAD_BYTES + TAIL_BYTES];
    if (!take_string(body, &text, &size))
        return NULL;
    if (size > LONG_BYTES) {
        if (!is_utf8(text, size))
            return NULL;
        Py_ssize_t head = HEAD_BYTES, tail = size - TAIL_BYTES;
        while ((text[head] & 0xc0) == 0x80)
            head--;
        while ((text[tail] & 0xc0) == 0x80)
            tail++;
        memcpy(ends, text, (size_t)head);
        memcpy(ends + head, text + tail, (size_t)(size - tail));
        text = ends;
        size = head + size - tail;
    }
    PyObject *taken = PyUnicode_DecodeUTF8(text, size, NULL);
    if (!taken) {
        body->failed = !PyErr_ExceptionMatches(PyExc_UnicodeDecodeError);
        if (!body->failed)
            PyErr_Clear();
    }
    return taken;
}

typedef enum { NOBODY, USER, ASSISTANT, SYSTEM, ROLES } Role;

typedef struct {
    Role role;
    PyObject *text;
} Message;

/* What has been read; `model`, `messages` and so on are NULL or 0 until then. */
typedef struct {
    PyObject *model;
    Message messages[MOST_TURNS];
    int count;
    bool stream;
    int64_t limits[2]; /* max_completion_tokens, max_tokens */
} Plain;

static bool is(const char *text, Py_ssize_t size, const char *word)
{
    return (size_t)size == strlen(word) && !memcmp(text, word, (size_t)size);
}

static bool take_message(Body *body, Message *message)
{
    if (!take_sign(body, '{'))
        return false;
    for (int keys = 0; keys < 2; keys++) {
        const char *key, *role;
        Py_ssize_t size;
        if ((keys && !take_sign(body, ',')) || !take_string(body, &key, &size))
            return false;
        bool is_role = is(key, size, "role");
        if ((!is_role && !is(key, size, "content")) || !take_sign(body, ':'))
            return false;
        if (!is_role) {
            if (message->text || !(message->text = take_text(body)))
                return false;
            continue;
        }
        if (message->role || !take_string(body, &role, &size))
            return false;
        message->role = is(role, size, "user")                                    ? USER
                        : is(role, size, "assistant")                             ? ASSISTANT
                        : is(role, size, "system") || is(role, size, "developer") ? SYSTEM
                                                                                  : NOBODY;
        if (!message->role)
            return false;
    }
    return take_sign(body, '}');
}

static bool take_messages(Body *body, Plain *plain)
{
    if (!take_sign(body, '['))
        return false;
    do {
        if (plain->count == MOST_TURNS)
            return false;
        plain->messages[plain->count] = (Message){NOBODY, NULL};
        if (!take_message(body, &plain->messages[plain->count++]))
            return false;
    } while (take_sign(body, ','));
    return take_sign(body, ']');
}

/* Take a string that decides nothing. */
static bool take_unread(Body *body)
{
    const char *text;
    Py_ssize_t size;
    return take_string(body, &text, &size) && is_utf8(text, size);
}

/* Take what nearly all clients that stream send here, if anything. */
static bool take_options(Body *body)
{
    return take_sign(body, '{') && take_word(body, "\"include_usage\"") && take_sign(body, ':') &&
           (take_word(body, "true") || take_word(body, "false")) && take_sign(body, '}');
}

/* Take one pair of the outermost object; *seen* has a bit for each key that there was. */
static bool take_pair(Body *body, Plain *plain, unsigned *seen)
{
    static const char *const KEYS[] = {"model",
                                       "messages",
                                       "stream",
                                       "max_completion_tokens",
                                       "max_tokens",
                                       "stream_options",
                                       "user",
                                       "temperature",
                                       "top_p",
                                       "n",
                                       "seed",
                                       "presence_penalty",
                                       "frequency_penalty"};
    enum { MODEL, MESSAGES, STREAM, COMPLETION, TOKENS, OPTIONS, CLIENT };
    enum { COUNT = sizeof KEYS / sizeof *KEYS };
    const char *text;
    Py_ssize_t size;
    int64_t number;
    if (!take_string(body, &text, &size))
        return false;
    int key = 0;
    while (key < COUNT && !is(text, size, KEYS[key]))
        key++;
    if (key == COUNT || *seen >> key & 1 || !take_sign(body, ':'))
        return false;
    *seen |= 1u << key;
    switch (key) {
    case MODEL:
        plain->model = take_text(body);
        return plain->model && PyUnicode_GetLength(plain->model) <= MOST_NAME_CHARS;
    case MESSAGES:
        return take_messages(body, plain);
    case STREAM:
        plain->stream = take_word(body, "true");
        return plain->stream || take_word(body, "false");
    case OPTIONS:
        return take_options(body);
    case CLIENT:
        return take_unread(body);
    default:
        if (!take_number(body, &number))
            return false;
        if (key == COMPLETION || key == TOKENS)
            plain->limits[key - COMPLETION] = number;
        return true;
    }
}

static bool take_body(Body *body, Plain *plain)
{
    unsigned seen = 0;
    if (!take_sign(body, '{'))
        return false;
    do {
        if (!take_pair(body, plain, &seen))
            return false;
    } while (take_sign(body, ','));
    return take_sign(body, '}') && body->at == body->end && plain->model && plain->count &&
           PyUnicode_GetLength(plain->model);
}

static PyObject *beginning_of(PyObject *text, Py_ssize_t chars)
{
    return PyUnicode_GetLength(text) <= chars ? Py_NewRef(text)
                                              : PyUnicode_Substring(text, 0, chars);
}

/* Return the earlier turns of the user, the latest first, each shortened. */
static PyObject *earlier_of(PyObject **asked, int count)
{
    PyObject *earlier = PyTuple_New(count);
    for (int i = 0; earlier && i < count; i++) {
        PyObject *text = beginning_of(asked[i], EARLIER_CHARS);
        if (!text || PyTuple_SetItem(earlier, i, text))
            Py_CLEAR(earlier);
    }
    return earlier;
}

/* Return how often a backslash stands before a u; request.py, text_bytes. */
static Py_ssize_t escapes_in(const char *at, const char *end)
{
    Py_ssize_t count = 0;
    for (; (at = memchr(at, '\\', (size_t)(end - at))); at++)
        count += end - at > 1 && at[1] == 'u';
    return count;
}

/* Return (model, stream, wanted tokens, bytes, last, earlier, reply, system); turns.py, _plain. */
static PyObject *turns_of(const Plain *plain, Py_ssize_t bytes)
{
    PyObject *asked[1 + MOST_EARLIER], *replied = NULL, *scene = NULL;
    int count = 0;
    for (int i = plain->count - 1; i >= 0; i--) {
        const Message *message = &plain->messages[i];
        if (!PyUnicode_GetLength(message->text))
            continue;
        if (message->role == USER && count <= MOST_EARLIER)
            asked[count++] = message->text;
        else if (message->role == ASSISTANT && count && !replied)
            replied = message->text;
    }
    for (int i = 0; i < plain->count && i < SCENE_TURNS; i++) {
        const Message *message = &plain->messages[i];
        if (message->role != SYSTEM || !PyUnicode_GetLength(message->text))
            continue;
        if (scene) /* two of them are rare */
            return Py_NewRef(Py_None);
        scene = message->text;
    }
    int64_t wanted = plain->limits[0] > 0 ? plain->limits[0] : plain->limits[1];
    PyObject *empty = PyUnicode_FromString("");
    PyObject *reply = replied ? beginning_of(replied, REPLY_CHARS) : Py_XNewRef(empty);
    PyObject *earlier = earlier_of(asked + 1, count ? count - 1 : 0);
    PyObject *result = NULL;
    if (empty && reply && earlier)
        result = Py_BuildValue("OOLnOOOO", plain->model, plain->stream ? Py_True : Py_False,
                               (long long)(wanted > 0 ? wanted : 0), bytes,
                               count ? asked[0] : empty, earlier, reply, scene ? scene : empty);
    Py_XDECREF(empty);
    Py_XDECREF(reply);
    Py_XDECREF(earlier);
    return result;
}

static PyObject *plain_body(PyObject *module, PyObject *raw)
{
    (void)module;
    char *bytes;
    Py_ssize_t size;
    if (PyBytes_AsStringAndSize(raw, &bytes, &size))
        return NULL;
    Body body = {bytes, bytes + size, NULL, (size_t)size, false};
    Plain plain;
    plain.model = NULL;
    plain.count = 0;
    plain.stream = false;
    plain.limits[0] = plain.limits[1] = 0;
    PyObject *result = NULL;
    if (take_body(&body, &plain))
        result = turns_of(&plain, size - 3 * escapes_in(bytes, bytes + size));
    else if (!body.failed)
        result = Py_NewRef(Py_None);
    PyMem_Free(body.room);
    Py_XDECREF(plain.model);
    for (int i = 0; i < plain.count; i++)
        Py_XDECREF(plain.messages[i].text);
    return result;
}
