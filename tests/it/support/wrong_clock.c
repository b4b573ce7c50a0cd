/* Loaded before the C library: whoever asks for the date is told another, WRONG_CLOCK_SECONDS away. */
#define _GNU_SOURCE
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static time_t offset;

__attribute__((constructor)) static void read_offset(void)
{
    const char *seconds = getenv("WRONG_CLOCK_SECONDS");
    if (seconds)
        offset = atol(seconds);
}

int clock_gettime(clockid_t clock, struct timespec *told)
{
    int status = (int)syscall(SYS_clock_gettime, clock, told);
    /* Timers go by the other clocks of the machine, which nobody sets. */
    if (status == 0 && clock == CLOCK_REALTIME)
        told->tv_sec += offset;
    return status;
}
