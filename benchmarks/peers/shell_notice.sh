# Reads pids from standard input, waits for each in the loop that most shell scripts have, tells when it has ended.
while read -r pid; do
    echo waiting
    while kill -0 "$pid" 2>/dev/null; do sleep 0.1; done
    read -r up _ </proc/uptime
    echo "uptime $up"
done
