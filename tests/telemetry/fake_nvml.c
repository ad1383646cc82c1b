/* A stand-in for libnvidia-ml.so.1, so that the real pynvml runs without a driver.
 *
 * FAKE_NVML_COUNT, FAKE_NVML_NAME, FAKE_NVML_MIB, FAKE_NVML_USED_MIB   what the GPUs are
 * FAKE_NVML_LAST_NAME    the last GPU's name, when it is another kind
 * FAKE_NVML_INIT         error code of nvmlInitWithFlags
 * FAKE_NVML_DENY         letters of the fields that may not be read: u(tilization) m(emory) p(ower) t(emperature)
 * FAKE_NVML_MIG          the last GPU is divided into instances; the UUID of GPU k is GPU-k
 * FAKE_NVML_PROCESSES    how many processes each GPU has: 100 and on, of 1 GiB and on; unset: it does not say
 * FAKE_NVML_ISLAND       how many consecutive GPUs NVLink joins; unset: the driver does not say
 * fake_lose(i) loses GPU i; fake_unload() forgets the session, as when a driver is loaded anew.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { OK = 0, UNINITIALIZED = 1, INVALID_ARGUMENT = 2, NOT_SUPPORTED = 3, NO_PERMISSION = 4, NOT_FOUND = 6 };
enum { INSUFFICIENT_SIZE = 7, LOST = 15 };
enum { GPUS = 64 };

static int lost[GPUS];
static int sessions;

static long number(const char *name, long otherwise) {
    const char *text = getenv(name);
    return text ? atol(text) : otherwise;
}

static int denied(char field) {
    const char *fields = getenv("FAKE_NVML_DENY");
    return fields && strchr(fields, field);
}

/* A handle is the index of the GPU, plus one. */
static int asked(void *device, char field) {
    if (!sessions) return UNINITIALIZED;
    if (lost[(long)device - 1]) return LOST;
    return denied(field) ? NO_PERMISSION : OK;
}

void fake_lose(int index) { lost[index] = 1; }
void fake_unload(void) { sessions = 0; }

int nvmlInitWithFlags(unsigned flags) {
    (void)flags;
    int error = (int)number("FAKE_NVML_INIT", OK);
    if (!error) sessions++;
    return error;
}

int nvmlShutdown(void) {
    if (!sessions) return UNINITIALIZED;
    sessions--;
    return OK;
}

const char *nvmlErrorString(int code) { return code == NO_PERMISSION ? "Insufficient Permissions" : "fake \033[2J error"; }

int nvmlSystemGetDriverVersion(char *version, unsigned length) {
    snprintf(version, length, "570.00 fake");
    return sessions ? OK : UNINITIALIZED;
}

int nvmlDeviceGetCount_v2(unsigned *count) {
    if (!sessions) return UNINITIALIZED;
    *count = (unsigned)number("FAKE_NVML_COUNT", 1);
    return OK;
}

int nvmlDeviceGetHandleByIndex_v2(unsigned index, void **device) {
    if (!sessions) return UNINITIALIZED;
    if (index >= (unsigned)number("FAKE_NVML_COUNT", 1)) return INVALID_ARGUMENT;
    if (lost[index]) return LOST;
    *device = (void *)(long)(index + 1);
    return OK;
}

int nvmlDeviceGetHandleByUUID(const char *uuid, void **device) {
    if (strncmp(uuid, "GPU-", 4)) return NOT_FOUND;
    int error = nvmlDeviceGetHandleByIndex_v2((unsigned)atoi(uuid + 4), device);
    return error == INVALID_ARGUMENT ? NOT_FOUND : error;
}

int nvmlDeviceGetMigMode(void *device, unsigned *current, unsigned *pending) {
    if (!getenv("FAKE_NVML_MIG")) return NOT_SUPPORTED;
    *current = *pending = (long)device == number("FAKE_NVML_COUNT", 1);
    return asked(device, 'g');
}

typedef struct { unsigned pid; unsigned long long used; unsigned instance, compute; } process;

int nvmlDeviceGetComputeRunningProcesses_v3(void *device, unsigned *count, process *found) {
    long there = number("FAKE_NVML_PROCESSES", -1);
    if (there < 0) return NOT_SUPPORTED;
    unsigned room = *count;
    *count = (unsigned)there;
    if (room < *count) return INSUFFICIENT_SIZE;
    for (unsigned k = 0; k < *count; k++) {
        found[k].pid = 100 + k;
        found[k].used = (k + 1ULL) << 30;
    }
    return asked(device, 'r');
}

int nvmlDeviceGetName(void *device, char *name, unsigned length) {
    const char *text = getenv("FAKE_NVML_NAME"), *last = getenv("FAKE_NVML_LAST_NAME");
    if (last && (long)device == number("FAKE_NVML_COUNT", 1)) text = last;
    snprintf(name, length, "%s", text ? text : "NVIDIA H200");
    return asked(device, 'n');
}

int nvmlDeviceGetUtilizationRates(void *device, unsigned rates[2]) {
    rates[0] = 80 + (unsigned)(long)device; /* GPU, then memory controller */
    rates[1] = 7;
    return asked(device, 'u');
}

int nvmlDeviceGetMemoryInfo(void *device, unsigned long long memory[3]) {
    unsigned long long mib = 1024 * 1024, used = (unsigned long long)number("FAKE_NVML_USED_MIB", 1000) * mib;
    memory[0] = (unsigned long long)number("FAKE_NVML_MIB", 143771) * mib; /* total, free, used */
    memory[1] = memory[0] - used;
    memory[2] = used;
    return asked(device, 'm');
}

int nvmlDeviceGetPowerUsage(void *device, unsigned *milliwatts) {
    *milliwatts = 350500;
    return asked(device, 'p');
}

int nvmlDeviceGetTemperature(void *device, unsigned sensor, unsigned *celsius) {
    *celsius = 61 + sensor;
    return asked(device, 't');
}

int nvmlDeviceGetMemoryBusWidth(void *device, unsigned *bits) {
    *bits = 384;
    return asked(device, 'b');
}

int nvmlDeviceGetMaxClockInfo(void *device, unsigned kind, unsigned *megahertz) {
    *megahertz = kind == 2 ? 10001 : 0; /* 2: memory */
    return asked(device, 'c');
}

int nvmlDeviceGetP2PStatus(void *one, void *other, unsigned capability, unsigned *status) {
    long island = number("FAKE_NVML_ISLAND", 0);
    if (!island) return NOT_SUPPORTED;
    long a = (long)one - 1, b = (long)other - 1;
    /* A chain: each GPU reaches the next of its island only, so that islands need the way through others. */
    *status = capability == 2 && a / island == b / island && (a - b == 1 || b - a == 1) ? 0 : 5;
    return asked(one, 'l');
}
