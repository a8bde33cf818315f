%% port_driver.erl PROGRAM WORKERS: port programs, each owned by a gen_server under a supervisor, and
%% a dispatcher that monitors the one which has the item and gives it to another when it dies. With
%% two workers, one is idle and gets it; with one, its replacement does.
%%
%% Orders come on descriptor 3, a line each, and are answered on descriptor 4 (README.md).
%% Descriptor 5 is a file with the frame.
-mode(compile).

-export([main/1, init/1, handle_call/3, handle_cast/2, handle_info/2, terminate/2]).
-export([start_worker/2]).

-define(BOUND_MS, 60000).
-define(MAX_ATTEMPTS, 5).
-define(FRAME_BYTES, 256 * 256 * 3).

main([Program, Workers]) ->
    {ok, File} = file:open("/proc/self/fd/5", [read, binary, raw]),
    {ok, Frame} = file:read(File, ?FRAME_BYTES),
    Lines = open_port({fd, 3, 4}, [{line, 100}, binary, eof]),
    %% The reports of deaths would go to standard output.
    logger:set_primary_config(level, none),
    Count = list_to_integer(Workers),
    {ok, _} = supervisor:start_link(?MODULE, {supervisor, self(), Program, Count}),
    settle_and_serve(Lines, Frame, Count, []).

say(Lines, Text) -> port_command(Lines, [Text, $\n]).

settle_and_serve(Lines, Frame, Count, Idle) ->
    Ready = warm_up(Frame, wait_for_workers(Count, Idle)),
    say(Lines, "ready"),
    receive
        {Lines, {data, {eol, Order}}} ->
            Payload = case Order of <<"trivial">> -> <<>>; <<"tile">> -> Frame end,
            settle_and_serve(Lines, Frame, Count, round(Lines, Payload, 1, Ready));
        {Lines, eof} -> halt(0)
    end.

%% Only those that live: an idle worker may be the one that died.
wait_for_workers(Count, Idle) ->
    case lists:filter(fun is_process_alive/1, Idle) of
        Enough when length(Enough) >= Count -> Enough;
        Few ->
            receive
                {idle, Worker} -> wait_for_workers(Count, Few ++ [Worker])
            after ?BOUND_MS -> exit(no_worker)
            end
    end.

warm_up(Frame, Idle) ->
    [begin
         gen_server:cast(Worker, {item, self(), 2, Frame}),
         receive {done, Worker, _} -> ok after ?BOUND_MS -> exit(no_warm_up) end
     end || Worker <- Idle],
    Idle.

%% Returns the workers that are idle.
round(_, _, Attempt, _) when Attempt > ?MAX_ATTEMPTS -> exit(never_done);
round(Lines, Payload, Attempt, Idle) ->
    [Worker | Others] = wait_for_workers(1, Idle),
    Monitor = monitor(process, Worker),
    gen_server:cast(Worker, {item, self(), min(Attempt, 2), Payload}),
    case outcome(Lines, Worker, Monitor) of
        {done, Ns} ->
            %% Before Erlang corrects it, as others read CLOCK_MONOTONIC.
            {time, Time} = lists:keyfind(time, 1, erlang:system_info(os_monotonic_time_source)),
            Known = erlang:convert_time_unit(Time, native, nanosecond),
            say(Lines, ["done ", integer_to_list(Ns), " ", integer_to_list(Known)]),
            demonitor(Monitor, [flush]),
            Others ++ [Worker];
        died -> round(Lines, Payload, Attempt + 1, Others)
    end.

outcome(Lines, Worker, Monitor) ->
    receive
        {victim, Worker, Pid} ->
            say(Lines, ["victim ", integer_to_list(Pid)]),
            outcome(Lines, Worker, Monitor);
        {done, Worker, Ns} -> {done, Ns};
        {'DOWN', Monitor, process, _, _} -> died
    after ?BOUND_MS -> exit(no_outcome)
    end.

%% ---- The supervisor and its workers ----

start_worker(Dispatcher, Program) ->
    gen_server:start_link(?MODULE, {worker, Dispatcher, Program}, []).

init({supervisor, Dispatcher, Program, Count}) ->
    Children = [#{id => Number, start => {?MODULE, start_worker, [Dispatcher, Program]},
                  shutdown => brutal_kill} || Number <- lists:seq(1, Count)],
    {ok, {#{strategy => one_for_one, intensity => 1000000, period => 1}, Children}};
init({worker, Dispatcher, Program}) ->
    Port = open_port({spawn_executable, Program}, [{packet, 4}, binary, exit_status]),
    {ok, {Port, Dispatcher}}.

handle_call(_, _, State) -> {reply, unknown, State}.

handle_cast({item, _, Attempt, Payload}, {Port, _} = State) ->
    port_command(Port, [Attempt, Payload]),
    {noreply, State}.

handle_info({Port, {data, Data}}, {Port, Dispatcher} = State) ->
    case Data of
        <<"R">> -> Dispatcher ! {idle, self()};
        <<"V", Pid:64>> -> Dispatcher ! {victim, self(), Pid};
        <<"D", Ns:64, _Result/binary>> -> Dispatcher ! {done, self(), Ns}
    end,
    {noreply, State};
handle_info({Port, {exit_status, _}}, {Port, _} = State) ->
    {stop, shutdown, State}.

terminate(_, _) -> ok.
