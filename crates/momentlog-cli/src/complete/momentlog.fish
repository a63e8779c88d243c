# Completion of momentlog for fish: `momentlog completion fish | source`.
function __momentlog_complete
    set -l command (commandline -opc)[1]
    set -l found ($command complete fish (commandline -cp) 2>/dev/null)
    if test $status -eq 3
        __fish_complete_path (commandline -ct)
    else
        printf '%s\n' $found
    end
end
complete -c momentlog -f -a '(__momentlog_complete)'
