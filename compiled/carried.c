/* What an event carries; the same as Carried.cut in event_agent/protocol/carried.py, which says by which rule. */

#include "quick.h"

/* Four tuples of bytes objects, each sorted: whole names of headers and beginnings of names, and the same of variables.
 * No beginning begins with another one. */
enum { NAMES, BEGINNINGS, PAIR };

int are_rules(PyObject *rules)
{
    if (!PyTuple_Check(rules) || PyTuple_GET_SIZE(rules) != 2 * PAIR)
        return 0;
    for (Py_ssize_t i = 0; i < 2 * PAIR; i++) {
        PyObject *names = PyTuple_GET_ITEM(rules, i);
        if (!PyTuple_Check(names))
            return 0;
        for (Py_ssize_t k = 0; k < PyTuple_GET_SIZE(names); k++)
            if (!PyBytes_CheckExact(PyTuple_GET_ITEM(names, k)))
                return 0;
    }
    return 1;
}

/* The last of these names that does not come behind the key; an empty text at NULL if all do. */
static Text last_of(PyObject *names, Text key)
{
    Py_ssize_t low = 0, high = PyTuple_GET_SIZE(names);
    Text found = {NULL, 0};
    while (low < high) {
        Py_ssize_t middle = (low + high) / 2;
        PyObject *name = PyTuple_GET_ITEM(names, middle);
        Text text = {PyBytes_AS_STRING(name), PyBytes_GET_SIZE(name)};
        int order = memcmp(text.at, key.at, (size_t)(text.size < key.size ? text.size : key.size));
        if (order < 0 || (order == 0 && text.size <= key.size)) {
            found = text;
            low = middle + 1;
        } else
            high = middle;
    }
    return found;
}

static int is_chosen(PyObject *rules, Py_ssize_t pair, Text key)
{
    Text name = last_of(PyTuple_GET_ITEM(rules, pair + NAMES), key);
    if (name.at && name.size == key.size && memcmp(name.at, key.at, (size_t)key.size) == 0)
        return 1;
    name = last_of(PyTuple_GET_ITEM(rules, pair + BEGINNINGS), key);
    return name.at && name.size <= key.size && memcmp(name.at, key.at, (size_t)name.size) == 0;
}

/* Behind the quote that ends a string which begins at `at`, behind its first quote; NULL if none does. */
static const char *behind_string(const char *at, const char *end)
{
    const char *quote = at;
    while (quote < end && (quote = memchr(quote, '"', (size_t)(end - quote)))) {
        const char *escape = quote;
        while (escape > at && escape[-1] == '\\')
            escape--;
        quote++;
        if ((quote - 1 - escape) % 2 == 0)
            return quote;
    }
    return NULL;
}

/* Behind a value, which is a text or a list of texts; NULL if it is something else. */
static const char *behind_value(const char *at, const char *end)
{
    if (at < end && *at == '"')
        return behind_string(at + 1, end);
    if (end - at < 2 || *at != '[')
        return NULL;
    if (at[1] == ']')
        return at + 2;
    do {
        at++; /* the bracket or a comma */
        if (at >= end || *at != '"' || !(at = behind_string(at + 1, end)) || at >= end)
            return NULL;
    } while (*at == ',');
    return *at == ']' ? at + 1 : NULL;
}

/* The JSON of an event with those of its headers that the rules choose; NULL without an error if it is not for here. */
PyObject *picked(const char *data, Py_ssize_t size, PyObject *rules)
{
    const char *at = data, *end = data + size - 1;
    if (size < 2 || *data != '{' || *end != '}')
        return NULL;
    PyObject *whole = PyBytes_FromStringAndSize(NULL, size);
    if (!whole)
        return NULL;
    char *begin = PyBytes_AS_STRING(whole), *to = begin;
    while (at < end) {
        if ((*at != ',' && at != data) || end - at < 2 || at[1] != '"')
            break;
        Text key = {at + 2, 0};
        const char *next = behind_string(key.at, end);
        if (!next || next >= end || *next != ':')
            break;
        key.size = next - 1 - key.at;
        next = behind_value(next + 1, end);
        if (!next)
            break;
        if (is_chosen(rules, begins(key.at, key.at + key.size, LITERAL("variable_")) ? PAIR : 0, key)) {
            *to = to == begin ? '{' : ',';
            to++;
            memcpy(to, at + 1, (size_t)(next - at - 1));
            to += next - at - 1;
        }
        at = next;
    }
    if (at != end || to == begin) {
        Py_DECREF(whole);
        return NULL;
    }
    *to++ = '}';
    if (_PyBytes_Resize(&whole, to - begin) < 0)
        return NULL;
    return whole;
}
