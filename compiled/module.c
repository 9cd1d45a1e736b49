/* The module event_agent._quick. */

#include "quick.h"

Known known;

/* A method of the module whose name is the function's without quick_. */
#define METHOD(name) {#name, (PyCFunction)(void (*)(void))quick_##name, METH_FASTCALL, "See event_agent/quick.py."}

static PyMethodDef methods[] = {
    METHOD(frames), METHOD(cuts), METHOD(pubs), METHOD(hpubs), METHOD(messages), METHOD(limit_arenas),
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT, "event_agent._quick", "What each event passes, in C.", -1, methods, NULL, NULL, NULL, NULL,
};

PyMODINIT_FUNC PyInit__quick(void)
{
    static const struct {
        PyObject **to;
        const char *text;
    } names[] = {
        {&known.data, "data"}, {&known.unique, "unique"}, {&known.unseen, "unseen"}, {&known.doubles, "doubles"},
        {&known.name, "name"}, {&known.subject, "subject"}, {&known.head, "head"}, {&known.size, "size"},
        {&known.subscription, "subscription"}, {&known.reply, "reply"}, {&known.headers, "headers"},
        {&known.carried, "carried"}, {&known.msg_id, "msg_id"}, {&known.parts, "parts"},
    };
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
        if (!(*names[i].to = PyUnicode_InternFromString(names[i].text)))
            return NULL;
    known.before_json = PyBytes_FromString("\",\"headers\":");
    known.behind_json = PyBytes_FromString("}");
    known.empty = PyBytes_FromString("");
    if (!known.before_json || !known.behind_json || !known.empty)
        return NULL;
    return PyModule_Create(&definition);
}
