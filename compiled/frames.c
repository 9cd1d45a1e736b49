/* The event socket's stream cut into events and answers; the same as event_agent/freeswitch/frames.py, which has its
 * source. */

#include "quick.h"

/* Where the parts of a frame lie that has one of the two usual heads; 0 if it has not, or is not there as a whole.
 * `head` is empty for an event. */
static int look(const char *at, const char *end, Text *head, Text *body)
{
    const char *begin = at, *line;
    int event = begins(at, end, LITERAL("Content-Length: "));
    if (event)
        at += sizeof("Content-Length: ") - 1;
    else if (begins(at, end, LITERAL("Content-Type: api/response\nContent-Length: ")))
        at += sizeof("Content-Type: api/response\nContent-Length: ") - 1;
    else
        return 0;
    line = memchr(at, '\n', (size_t)(end - at < 9 ? end - at : 9));
    long long length = line ? number(at, line, 7) : -1;
    if (length < 0)
        return 0;
    *head = (Text){begin, event ? 0 : line - begin};
    if (event && begins(line, end, LITERAL("\nContent-Type: text/event-json\n\n")))
        at = line + sizeof("\nContent-Type: text/event-json\n\n") - 1;
    else if (!event && begins(line, end, LITERAL("\n\n")))
        at = line + 2;
    else
        return 0;
    *body = (Text){at, (Py_ssize_t)length};
    return length <= end - at;
}

PyObject *quick_frames(PyObject *module, PyObject *const *args, Py_ssize_t nargs)
{
    if (nargs != 5 || !PyBytes_Check(args[0]) || !PyList_Check(args[2]) || !is_kind_of_tuple(args[3])) {
        PyErr_SetString(PyExc_TypeError, "frames(bytes, int, list, type of tuple, object)");
        return NULL;
    }
    const char *data = PyBytes_AS_STRING(args[0]), *end = data + PyBytes_GET_SIZE(args[0]);
    Py_ssize_t pos = position(args[1]);
    if (pos < 0)
        return NULL;
    Text head, body;
    while (pos < end - data && look(data + pos, end, &head, &body)) {
        PyObject *items[2] = {
            head.size ? PyBytes_FromStringAndSize(head.at, head.size) : Py_NewRef(args[4]),
            PyBytes_FromStringAndSize(body.at, body.size),
        };
        if (append_and_drop(args[2], made((PyTypeObject *)args[3], items, 2)) < 0)
            return NULL;
        pos = body.at + body.size - data;
    }
    return PyLong_FromSsize_t(pos);
}
