/* Messages to a NATS server, and from it; the same as in event_agent/drivers/nats: events.py, jetstream.py, wire.py.
 * Source: the NATS client protocol, PUB, HPUB, MSG. */

#include "quick.h"

static char *put(char *to, PyObject *bytes)
{
    memcpy(to, PyBytes_AS_STRING(bytes), (size_t)PyBytes_GET_SIZE(bytes));
    return to + PyBytes_GET_SIZE(bytes);
}

static char *put_number(char *to, long long value)
{
    char digits[24];
    int count = 0;
    do
        digits[count++] = (char)('0' + value % 10);
    while (value /= 10);
    while (count)
        *to++ = digits[--count];
    return to;
}

/* Bytes of a payload, which is a bytes object or a tuple of them; -1 if it is neither. */
static Py_ssize_t parts_size(PyObject *parts)
{
    if (PyBytes_Check(parts))
        return PyBytes_GET_SIZE(parts);
    if (!PyTuple_Check(parts))
        return -1;
    Py_ssize_t size = 0;
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(parts); i++) {
        if (!PyBytes_Check(PyTuple_GET_ITEM(parts, i)))
            return -1;
        if (size > PY_SSIZE_T_MAX - PyBytes_GET_SIZE(PyTuple_GET_ITEM(parts, i)))
            return -1;
        size += PyBytes_GET_SIZE(PyTuple_GET_ITEM(parts, i));
    }
    return size;
}

static char *put_parts(char *to, PyObject *parts)
{
    if (PyBytes_Check(parts))
        return put(to, parts);
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(parts); i++)
        to = put(to, PyTuple_GET_ITEM(parts, i));
    return to;
}

PyObject *quick_pubs(PyObject *module, PyObject *const *args, Py_ssize_t nargs)
{
    if (nargs != 2 || !is_sequence(args[0])) {
        PyErr_SetString(PyExc_TypeError, "pubs(list or tuple, int)");
        return NULL;
    }
    Py_ssize_t most = PyLong_AsSsize_t(args[1]), total = 0, count = PySequence_Fast_GET_SIZE(args[0]);
    if (most < 0 && PyErr_Occurred())
        return NULL;
    for (Py_ssize_t i = 0; i < count; i++) {
        PyObject *event = PySequence_Fast_GET_ITEM(args[0], i);
        if (!PyTuple_Check(event) || PyTuple_GET_SIZE(event) < 3)
            Py_RETURN_NONE;
        PyObject *subject = PyTuple_GET_ITEM(event, 1);
        Py_ssize_t size = parts_size(PyTuple_GET_ITEM(event, 2));
        if (size < 0 || !PyBytes_Check(subject) || PyBytes_GET_SIZE(subject) > most)
            Py_RETURN_NONE;
        if (size > PY_SSIZE_T_MAX - total - PyBytes_GET_SIZE(subject) - 64)
            Py_RETURN_NONE;
        total += size + PyBytes_GET_SIZE(subject) + 32; /* "PUB ", " ", 20 digits, 2 "\r\n" */
    }
    PyObject *whole = PyBytes_FromStringAndSize(NULL, total);
    if (!whole)
        return NULL;
    char *to = PyBytes_AS_STRING(whole);
    for (Py_ssize_t i = 0; i < count; i++) {
        PyObject *event = PySequence_Fast_GET_ITEM(args[0], i);
        memcpy(to, "PUB ", 4);
        to = put(to + 4, PyTuple_GET_ITEM(event, 1));
        *to++ = ' ';
        to = put_number(to, parts_size(PyTuple_GET_ITEM(event, 2)));
        memcpy(to, "\r\n", 2);
        to = put_parts(to + 2, PyTuple_GET_ITEM(event, 2));
        memcpy(to, "\r\n", 2);
        to += 2;
    }
    if (_PyBytes_Resize(&whole, to - PyBytes_AS_STRING(whole)) < 0)
        return NULL;
    return whole;
}

static PyObject *hpub(PyObject *ticket, PyObject *event, PyObject *inbox, PyObject *expect)
{
    static const char first[] = "NATS/1.0\r\nNats-Msg-Id: ";
    PyObject *subject = PyObject_GetAttr(event, known.subject), *id = PyObject_GetAttr(event, known.msg_id),
             *parts = PyObject_GetAttr(event, known.parts), *whole = NULL;
    long long value = PyLong_AsLongLong(ticket); /* they only grow: with 32 bits they would end within weeks */
    Py_ssize_t size = 0;
    if (!subject || !id || !parts || (value < 0 && PyErr_Occurred()))
        goto out;
    if (value < 0 || !PyBytes_Check(subject) || !PyBytes_Check(id) || (size = parts_size(parts)) < 0) {
        PyErr_SetString(PyExc_TypeError, "an event of bytes, with a ticket");
        goto out;
    }
    Py_ssize_t head = (Py_ssize_t)sizeof(first) - 1 + PyBytes_GET_SIZE(id) + 2 + PyBytes_GET_SIZE(expect) + 2;
    char line[24 * 3], *stop = put_number(line, value);
    *stop++ = ' ';
    stop = put_number(stop, head);
    *stop++ = ' ';
    stop = put_number(stop, head + size);
    *stop++ = '\r';
    *stop++ = '\n';
    whole = PyBytes_FromStringAndSize(
        NULL, 5 + PyBytes_GET_SIZE(subject) + 1 + PyBytes_GET_SIZE(inbox) + (stop - line) + head + size + 2);
    if (!whole)
        goto out;
    char *to = PyBytes_AS_STRING(whole);
    memcpy(to, "HPUB ", 5);
    to = put(to + 5, subject);
    *to++ = ' ';
    to = put(to, inbox);
    memcpy(to, line, (size_t)(stop - line));
    to += stop - line;
    memcpy(to, first, sizeof(first) - 1);
    to = put(to + sizeof(first) - 1, id);
    memcpy(to, "\r\n", 2);
    to = put(to + 2, expect);
    memcpy(to, "\r\n", 2);
    to = put_parts(to + 2, parts);
    memcpy(to, "\r\n", 2);
out:
    Py_XDECREF(subject);
    Py_XDECREF(id);
    Py_XDECREF(parts);
    return whole;
}

PyObject *quick_hpubs(PyObject *module, PyObject *const *args, Py_ssize_t nargs)
{
    if (nargs != 3 || !is_sequence(args[0]) || !PyBytes_Check(args[1]) || !PyBytes_Check(args[2])) {
        PyErr_SetString(PyExc_TypeError, "hpubs(list or tuple, bytes, bytes)");
        return NULL;
    }
    PyObject *found = PyList_New(0);
    for (Py_ssize_t i = 0; found && i < PySequence_Fast_GET_SIZE(args[0]); i++) {
        PyObject *item = PySequence_Fast_GET_ITEM(args[0], i), *one = NULL;
        if (PyTuple_Check(item) && PyTuple_GET_SIZE(item) == 2)
            one = hpub(PyTuple_GET_ITEM(item, 0), PyTuple_GET_ITEM(item, 1), args[1], args[2]);
        else
            PyErr_SetString(PyExc_TypeError, "a list of pairs");
        if (append_and_drop(found, one) < 0)
            Py_CLEAR(found);
    }
    return found;
}

/* What a stream answers when it has stored a message, and no duplicate, in its usual form:
 * {"stream":"NAME", "seq":NUMBER}. See drivers/nats/acks.py. */
static int is_stored(const char *at, const char *end)
{
    if (!begins(at, end, LITERAL("{\"stream\":\"")) || end[-1] != '}')
        return 0;
    at += sizeof("{\"stream\":\"") - 1;
    const char *quote = memchr(at, '"', (size_t)(end - at));
    if (!quote || quote == at || quote - at > 255 || memchr(at, '\\', (size_t)(quote - at)))
        return 0;
    if (begins(quote, end, LITERAL("\", \"seq\":")))
        at = quote + sizeof("\", \"seq\":") - 1;
    else if (begins(quote, end, LITERAL("\",\"seq\":")))
        at = quote + sizeof("\",\"seq\":") - 1;
    else
        return 0;
    return end - 1 - at <= 20 && all_digits(at, end - 1);
}

/* A Message without headers. */
static PyObject *message(PyTypeObject *type, Text subject, Text reply, Text data, long long sid)
{
    PyObject *names[6] = {known.subject, known.reply, known.data, known.headers, known.subscription, known.carried};
    PyObject *values[6] = {
        PyBytes_FromStringAndSize(subject.at, subject.size), PyBytes_FromStringAndSize(reply.at, reply.size),
        PyBytes_FromStringAndSize(data.at, data.size), Py_NewRef(known.empty), PyLong_FromLongLong(sid),
        Py_NewRef(Py_None),
    };
    PyObject *found = type->tp_alloc(type, 0);
    for (int i = 0; i < 6; i++) {
        if (found && (!values[i] || PyObject_SetAttr(found, names[i], values[i]) < 0))
            Py_CLEAR(found);
        Py_XDECREF(values[i]);
    }
    return found;
}

/* The ticket of an acknowledgement: what stands behind `inbox` in its subject; -1 if it is none in its usual form. */
static long long ticket_of(Text subject, Text data, PyObject *inbox)
{
    Py_ssize_t size = PyBytes_GET_SIZE(inbox);
    if (!size || subject.size <= size || memcmp(subject.at, PyBytes_AS_STRING(inbox), (size_t)size) != 0)
        return -1;
    return is_stored(data.at, data.at + data.size) ? number(subject.at + size, subject.at + subject.size, 18) : -1;
}

/* Add a ticket to the list that stands last in `found`, or to a new one. */
static int add_ticket(PyObject *found, long long ticket)
{
    Py_ssize_t count = PyList_GET_SIZE(found);
    PyObject *last = count ? PyList_GET_ITEM(found, count - 1) : NULL;
    if (!last || !PyList_CheckExact(last)) {
        last = PyList_New(0);
        if (!last || PyList_Append(found, last) < 0) {
            Py_XDECREF(last);
            return -1;
        }
        Py_DECREF(last); /* `found` has it */
    }
    return append_and_drop(last, PyLong_FromLongLong(ticket));
}

PyObject *quick_messages(PyObject *module, PyObject *const *args, Py_ssize_t nargs)
{
    if (nargs != 5 || !PyBytes_Check(args[0]) || !PyList_Check(args[2]) || !PyType_Check(args[3])
        || !PyBytes_Check(args[4])) {
        PyErr_SetString(PyExc_TypeError, "messages(bytes, int, list, type, bytes)");
        return NULL;
    }
    const char *data = PyBytes_AS_STRING(args[0]);
    Py_ssize_t size = PyBytes_GET_SIZE(args[0]), pos = position(args[1]);
    if (pos < 0)
        return NULL;
    const char *end = data + size;
    while (pos < size) {
        const char *at = data + pos;
        if (!begins(at, end, LITERAL("MSG ")))
            break;
        at += 4;
        const char *stop = memchr(at, '\r', (size_t)(end - at));
        if (!stop || end - stop < 2 || stop[1] != '\n')
            break;
        Text fields[5];
        int count = 0;
        while (at < stop && count < 5) {
            const char *blank = memchr(at, ' ', (size_t)(stop - at));
            if (!blank)
                blank = stop;
            if (blank > at)
                fields[count++] = (Text){at, blank - at};
            at = blank + 1;
        }
        if (count < 3 || count > 4)
            break;
        long long sid = number(fields[1].at, fields[1].at + fields[1].size, 18);
        Text last = fields[count - 1];
        long long length = number(last.at, last.at + last.size, 6);
        at = stop + 2;
        if (sid < 0 || length < 0 || length + 2 > end - at || at[length] != '\r' || at[length + 1] != '\n')
            break;
        Text body = {at, (Py_ssize_t)length}, reply = count == 4 ? fields[2] : (Text){at, 0};
        long long ticket = ticket_of(fields[0], body, args[4]);
        if (ticket >= 0 ? add_ticket(args[2], ticket) < 0
                        : append_and_drop(args[2], message((PyTypeObject *)args[3], fields[0], reply, body, sid)) < 0)
            return NULL;
        pos = at + length + 2 - data;
    }
    return PyLong_FromSsize_t(pos);
}
